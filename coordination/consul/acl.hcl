# What the token of a host needs, in Consul's language of policies, for prefix "dvold" and host "h1".
# The name of the host's node and sessions is the prefix (with - for /), - and the host's name.

key_prefix "dvold/" {
  policy = "write"
}

session "dvold-h1" {
  policy = "write"
}

node "dvold-h1" {
  policy = "write"
}
