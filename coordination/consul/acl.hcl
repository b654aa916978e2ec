# What the token of a host needs, in Consul's language of policies, for prefix "dvol" and host "h1".
# The name of the host's node and sessions is the prefix (with - for /), - and the host's name.

key_prefix "dvol/" {
  policy = "write"
}

session "dvol-h1" {
  policy = "write"
}

node "dvol-h1" {
  policy = "write"
}
