-- dbmate creates this table itself and skips this file, since its name does not begin with a number. The file tells sqlc
-- about the table, which the readiness query reads.
CREATE TABLE stripeonce_migrations (version VARCHAR PRIMARY KEY);
