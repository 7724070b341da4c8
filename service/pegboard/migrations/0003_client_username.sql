-- By this name a plugin that serves the table tells a user name that is taken.
ALTER TABLE pegboard.client RENAME CONSTRAINT client_username_key TO client_username_unique;
