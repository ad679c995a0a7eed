"""The worker started by the system: at login, or when the machine starts.

`order` (what is to be started; pure), `unit` (as a unit of systemd; pure), `task` (as a task of Windows; pure),
`manager` (systemctl and schtasks, asked and told).
"""
