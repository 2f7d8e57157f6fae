"""What pictures show: functions that draw arrays on the axes they are given."""
