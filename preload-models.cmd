@echo off
rem Fetches the models of the settings beforehand; the worker does the same by itself while it runs.
call "%~dp0horde-bridge.cmd" models download %*
exit /b %errorlevel%
