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

# Optional, for a hint that another machine is down, long before its session is over. Here "h1" is the machine's name in "consul members".

agent "h1" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
