"""A task of the Windows Task Scheduler, as XML. Pure.

Elements and their order follow the schema http://schemas.microsoft.com/windows/2004/02/mit/task, version 1.2.
"""

import subprocess
from xml.sax.saxutils import escape

from worker.service.order import Order

_TEMPLATE = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{title}</Description>
    <URI>\\{label}</URI>
  </RegistrationInfo>
  <Triggers>
    {trigger}
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>{logon}</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>20</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def task_xml(order: Order, user: str) -> str:
    """The task of `user`, as domain and name. Priority 7 is below normal: the machine stays its owner's.

    A path is one element and needs no quotes there; arguments are quoted as programs on Windows read them.
    """
    trigger = (
        "<BootTrigger><Enabled>true</Enabled><Delay>PT30S</Delay></BootTrigger>"
        if order.at_boot
        else f"<LogonTrigger><Enabled>true</Enabled><UserId>{escape(user)}</UserId></LogonTrigger>"
    )
    return _TEMPLATE.format(
        title=escape(order.title),
        label=escape(order.label),
        trigger=trigger,
        user=escape(user),
        # At boot nobody has logged in: the system starts it for the user without his password.
        logon="S4U" if order.at_boot else "InteractiveToken",
        command=escape(f'"{order.launcher}"' if " " in str(order.launcher) else str(order.launcher)),
        arguments=escape(subprocess.list2cmdline(["run", *order.arguments])),
        folder=escape(str(order.folder)),
    )
