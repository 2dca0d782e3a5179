-- Runs once, when a shard's volume is new. The image has made the user with its password.
-- Every database of the lab, whatever the namespace.
GRANT ALL ON `paytm\_%`.* TO 'paytm_lab'@'%';
