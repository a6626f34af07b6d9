"""Who may use the service, and how much: keys, rates and quotas; all off unless set."""
