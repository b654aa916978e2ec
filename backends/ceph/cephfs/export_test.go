package cephfs

// ClientsBelow are the clients that run of a pool.
var ClientsBelow = kind().Below

// OwnKey is that of the client of a volume alone.
func OwnKey(handle string) string { return ownKey(handle) }

// HasLibraries says that the tests were built with the libraries of Ceph.
const HasLibraries = hasLibraries
