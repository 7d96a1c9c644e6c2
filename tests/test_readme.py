from tests.conftest import CHECKOUT


def test_the_readme_shows_the_table_of_the_committed_run():
    readme = (CHECKOUT / "README.md").read_text()
    shown = readme.split("<!-- benchmark -->")[1].split("<!-- /benchmark -->")[0]
    assert (CHECKOUT / "reports/benchmark.md").read_text().strip() in shown
