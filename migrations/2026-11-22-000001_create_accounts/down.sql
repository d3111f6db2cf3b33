DROP TABLE refresh_tokens, login_sessions, memberships, users, organizations;
