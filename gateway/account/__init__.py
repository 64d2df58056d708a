"""What a tenant can see and do about its own account, without HTTP: the use cases that the account
API and the dashboard both show."""
