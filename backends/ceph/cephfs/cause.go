package cephfs

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dvol/dvold/backends"
)

// causes are what a client writes when it can't mount, as Ceph 16 has it in
// ceph_fuse.cc, MonClient.cc and auth/KeyRing.cc; the first that occurs counts.
var causes = []struct {
	text   string
	reason string // %[1]s is the file system, %[2]s the directory, %[3]s the monitors, %[4]s the user, %[5]s its keyring, %[7]s what to do without the directory
}{
	{"unable to find a keyring", "there is no keyring %[5]s"},
	{"failed to load keyring", "keyring %[5]s can't be read"},
	{"error loading keyring", "keyring %[5]s can't be read"},
	{"handle_auth_bad_method", "the cluster refuses the key of client.%[4]s in %[5]s"},
	{"ceph mount failed with (1)", "the caps of client.%[4]s do not allow %[1]s, or its directory /%[2]s: see ceph fs authorize"},
	{"ceph mount failed with (13)", "the caps of client.%[4]s do not allow %[1]s, or its directory /%[2]s: see ceph fs authorize"},
	{"mdsmap subscription failed: (2)", "the cluster has no %[1]s: see ceph fs ls"},
	{"ceph mount failed with (2)", "%[1]s has no directory /%[2]s: %[7]s"},
	{"ceph mount failed with (108)", "the cluster has cut this client off: see ceph osd blocklist ls"},
	{"ceph mount failed with (110)", "no MDS of %[1]s answers: see ceph fs status"},
	{"no monitors specified", "the configuration names no monitors: set monitors, or conf"},
	{"failed to fetch mon config", "no monitor answers (%[3]s), or none accepts client.%[4]s"},
}

// What a client says once the monitors have let it in, and once an MDS has.
const (
	started  = "starting ceph client"
	mounting = "starting fuse"
)

// mountFailed is the line that says which error ended a mount.
var mountFailed = regexp.MustCompile(`ceph mount failed with (.*)`)

// Cause says why a client did not come up, by what it wrote.
func (s spec) Cause(said string) error {
	for _, c := range causes {
		if strings.Contains(said, c.text) {
			return fmt.Errorf(c.reason+": %[6]w", s.name(), s.config.Subdir, s.config.Cluster.Hosts(), s.config.Cluster.User, s.config.Cluster.KeyringPath(), backends.ErrUnavailable, s.config.remedy())
		}
	}
	if m := mountFailed.FindStringSubmatch(said); m != nil {
		return fmt.Errorf("mount of %s: %s: %w", s.name(), m[1], backends.ErrUnavailable)
	}
	if strings.Contains(said, started) && !strings.Contains(said, mounting) {
		return fmt.Errorf("no MDS of %s answers, or the caps of client.%s allow nothing there: see ceph fs status and ceph auth get: %w", s.name(), s.config.Cluster.User, backends.ErrUnavailable)
	}
	return nil
}
