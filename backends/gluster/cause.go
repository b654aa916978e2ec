package gluster

import (
	"fmt"
	"strings"

	"github.com/dvol/dvold/backends"
)

// causes are what a client writes into its log when it can't mount, as
// GlusterFS 9 to 11 have it in glusterfsd-mgmt.c, client-handshake.c, name.c and
// fuse-bridge.c; the first that occurs counts.
var causes = []struct {
	text   string
	reason string // %[1]s is the Gluster volume, %[2]s the directory, %[3]s the servers, %[4]s the message
}{
	{"failed to fetch volume file", "the servers know no Gluster volume %[1]s: see gluster volume list"},
	{"is not found", "Gluster volume %[1]s has no directory %[2]s: make it, or change the pool's subdir"},
	{"Authentication failed", "Gluster volume %[1]s refuses this host: see its auth.allow, auth.reject and, with TLS, auth.ssl-allow; a host that was fenced is let in again by itself"},
	{"could not load our cert", "TLS with the servers of Gluster volume %[1]s: %[4]s"},
	{"could not load private key", "TLS with the servers of Gluster volume %[1]s: %[4]s"},
	{"could not load CA list", "TLS with the servers of Gluster volume %[1]s: glusterfs.ca, beside glusterfs.pem, can't be read"},
	{"alert unknown ca", "TLS: the servers of Gluster volume %[1]s don't trust this host's certificate, glusterfs.pem: have it signed by an authority that is in their glusterfs.ca"},
	{"certificate verify failed", "TLS: the certificate of a server of Gluster volume %[1]s is not valid, or of no authority in this host's glusterfs.ca"},
	{"SSL routines", "TLS with the servers of Gluster volume %[1]s failed: %[4]s"},
	{"SSL connect error", "TLS with the servers of Gluster volume %[1]s failed: see its client.ssl, and the pool's tls"},
	{"failed to get the port number for remote subvolume", "no brick of Gluster volume %[1]s runs: see gluster volume status %[1]s, and gluster volume start"},
	{"DNS resolution failed", "no server of the pool can be found by its name (%[3]s)"},
	{"failed to connect with remote-host", "no server of the pool answers (%[3]s)"},
	{"Exhausted all volfile servers", "no server of the pool answers (%[3]s)"},
	// With TLS 1.3 a client takes itself for connected before the server has looked at its certificate.
	{"failed (Connection reset by peer)", hungUp},
	{"failed (Broken pipe)", hungUp},
	{"client_dump_version_cbk", hungUp},
	{"first lookup on root failed", "no brick of Gluster volume %[1]s answers: see gluster volume status %[1]s and, with TLS, that the servers trust this host's certificate, glusterfs.pem"},
}

const hungUp = "the servers of Gluster volume %[1]s hang up: with TLS, see that they trust this host's certificate, glusterfs.pem"

// Cause says why a client did not come up, by what it wrote to its log.
func (s spec) Cause(text string) error {
	for _, c := range causes {
		if strings.Contains(text, c.text) {
			return fmt.Errorf(c.reason+": %[5]w", s.volume, s.subdir, strings.Join(s.servers, ", "), messageWith(text, c.text), backends.ErrUnavailable)
		}
	}
	if line := lastError(text); line != "" {
		return fmt.Errorf("%s: %w", line, backends.ErrUnavailable)
	}
	if s.tls { // it may have ended before it could say that it was hung up on
		return fmt.Errorf(hungUp+": %[2]w", s.volume, backends.ErrUnavailable)
	}
	return nil
}

// messageWith is the message that contains a text, without what precedes it.
func messageWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			_, message, _ := strings.Cut(line, "] 0-")
			_, message, _ = strings.Cut(message, ": ")
			return strings.TrimSpace(message)
		}
	}
	return ""
}

// lastError is the message of the last line that is an error, without what
// precedes it: "[time] E [MSGID: 1] [file.c:2:function] 0-name: message".
func lastError(text string) string {
	last := ""
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, "] E [")
		if !ok {
			continue
		}
		if _, message, ok := strings.Cut(rest, ": "); ok && !strings.HasPrefix(rest, "MSGID") {
			last = message
		} else if _, message, ok := strings.Cut(rest, "] 0-"); ok {
			last = message
		}
	}
	return strings.TrimSpace(last)
}
