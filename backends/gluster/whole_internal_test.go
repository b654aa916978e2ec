package gluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
)

// What could become two volumes, with two owners, is none: what pools have themselves, and
// what another pool on the same servers allows, too.
func TestWholeVolumeIsOnePoolsAlone(t *testing.T) {
	config := func(servers, volume string, whole ...string) Config {
		c := DefaultConfig()
		c.Servers, c.Volume, c.GlusterVolumes = strings.Split(servers, " "), volume, whole
		return c
	}
	p := &Pool{config: config("n1 n2", "gv0", "team-*", "gv*", "docs")}
	p.Beside(map[string]Config{
		"near": config("n2 n3", "gv1", "team-a*", "docs"), "far": config("f1", "gv2", "team-*"),
	})
	for volume, want := range map[string]string{
		"gv0":    "is the pool's own",
		"gv1":    `is that of pool "near"`,
		"gv2":    "",
		"team-a": `pool "near" allows team-a, too`,
		"team-b": "",
		"docs":   `pool "near" allows docs, too`,
		"web":    "add it to gluster_volumes",
	} {
		err := p.allows(volume)
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", volume, err, want)
		}
	}
}
