-- dbmate makes this table itself and passes this file by, since its name begins with no number.
-- It stands here so that sqlc knows the table that the readiness query reads.
CREATE TABLE stripeonce_migrations (version VARCHAR PRIMARY KEY);
