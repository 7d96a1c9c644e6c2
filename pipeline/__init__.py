"""The library: functions on values. What is on disk, and where, is the business of stages/."""
