package nfs

import (
	"errors"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
)

func TestShareAllowed(t *testing.T) {
	c := DefaultConfig()
	c.Server, c.Export = "nas", "/srv/volumes"
	c.Shares = []string{"[fd00::1]:/srv/team", `\[fd00::2\]:/srv/*`, "old:/srv/*"}
	p := &Pool{config: c}
	for share, want := range map[string]bool{
		"[fd00::1]:/srv/team": true, "[fd00::1]:/srv/other": false,
		"[fd00::2]:/srv/team": true, "[fd00::2]:/other": false,
		"old:/srv/team": true, "new:/srv/team": false,
	} {
		if _, err := p.shareOf(sharePrefix + share); (err == nil) != want {
			t.Errorf("%s: got %v", share, err)
		}
	}
}

// What could become two volumes, with two owners, is none: what pools have themselves, and
// what another pool allows, too.
func TestShareIsOnePoolsAlone(t *testing.T) {
	config := func(server, export, subdir string, shares ...string) Config {
		c := DefaultConfig()
		c.Server, c.Export, c.Subdir, c.Shares = server, export, subdir, shares
		return c
	}
	p := &Pool{config: config("nas", "/srv/volumes", "", "*:/*", "*:/srv/*", "*:/srv/*/*")}
	p.Beside(map[string]Config{
		"deep": config("nas", "/srv", "deep/pool"), "other": config("other", "/srv/pool", ""), "rival": config("third", "/x", "", "nas:/srv/team-*"),
	})
	for share, want := range map[string]string{
		"nas:/srv/volumes":     "the pool's own directory",
		"nas:/srv/volumes/x":   "the pool's own directory",
		"nas:/srv":             "the pool's own directory",
		"nas:/":                "the pool's own directory",
		"nas:/srv/volumes2":    "",
		"nas:/srv/deep":        `of pool "deep"`,
		"nas:/srv/deep/pool":   `of pool "deep"`,
		"nas:/srv/deep/pool2":  "",
		"other:/srv/pool/x":    `of pool "other"`,
		"other:/srv/deep":      "",
		"nas:/srv/team-a":      `pool "rival" allows nas:/srv/team-a, too`,
		"third:/srv/volumes":   "",
		"third:/srv/volumes/x": "",
	} {
		_, err := p.shareOf(sharePrefix + share)
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", share, err, want)
		}
	}
}
