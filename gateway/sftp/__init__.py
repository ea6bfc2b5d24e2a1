"""The SFTP front end: translates SSH and SFTP into calls of the door and nothing more.

asyncssh is used here and nowhere else. No policy, no storage and no audit rules live here.
"""
