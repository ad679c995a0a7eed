"""The worker started by the system: at login, or when the machine starts.

`order` (what is to be started, as a unit of systemd or a task of Windows; pure), `manager` (systemctl and schtasks,
asked and told).
"""
