package nfs

import "testing"

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
