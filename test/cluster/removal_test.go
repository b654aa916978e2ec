package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

func testRemoveWhatOthersKnow(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	h1.create("known")
	h2.sh("known", "echo old >/data/file")
	h2.docker("create", "--name", "box", "--network", "host", "--volume-driver", "dvol", "-v", "known:/data", lab.BusyBox, "ls", "/data")
	h1.docker("volume", "rm", "known")
	h2.dockerFails([]string{"known"}, "volume", "inspect", "known")
	h2.dockerFails([]string{"known", "no such volume"}, "start", "-a", "box")
	for _, h := range c.hosts {
		h.eventually("removed from docker volume ls", func() error {
			if h.listed("known") {
				return fmt.Errorf("it is listed")
			}
			return nil
		})
	}
	h2.create("known")
	want(c.t, "files of the new one", h2.docker("start", "-a", "box"), "")
	want(c.t, "ID on h1", h1.inspect("known").ID, h2.inspect("known").ID)
}

func testRemoveWhatOthersHold(c *cluster) {
	h1, h2, h3 := c.h(1), c.h(2), c.h(3)
	h2.start("box", idle, "held:/data")
	h3.start("box", idle, "held:/data")
	refused := func(words ...string) {
		c.t.Helper()
		h1.dockerFails(append(words, "mounted on host", "stop its containers there"), "volume", "rm", "held")
	}
	refused(`"h2"`, `"h3"`)
	h2.docker("stop", "box")
	h1.wantHolders("held", "h3")
	refused(`"h3"`)
	h3.sh("held", "true") // one of two containers
	refused(`"h3"`)
	h3.removeContainer("box")
	h1.wantHolders("held")
	h1.docker("volume", "rm", "held") // although a stopped container on h2 refers to it
	h2.dockerFails([]string{"held", "no such volume"}, "start", "box")
}

func testUndeleteElsewhere(c *cluster) {
	c.h(1).sh("precious", "echo 1 >/data/file")
	c.h(2).docker("volume", "rm", "precious")
	c.h(3).dvold("trash", "restore", "precious")
	want(c.t, "content", c.h(1).sh("precious", "cat /data/file"), "1")
}

// Hosts that are silent for three reasons hold their volumes, until they come
// back or are forgotten.
func TestRemoveWhatSilentHostsHold(t *testing.T) {
	c := ownCluster(t, 4, 1)
	h1, crashed, cut, dead := c.h(1), c.h(2), c.h(3), c.h(4)
	silent := []*host{crashed, cut, dead}
	for _, h := range silent {
		h.start("box", beat, h.Name()+":/data")
		h.start("all", idle, "all:/data")
	}
	live := func(h *host) {
		t.Helper()
		h1.dockerFails([]string{fmt.Sprintf("%q", h.Name()), "stop its containers there"}, "volume", "rm", h.Name())
	}
	for _, h := range silent {
		live(h)
	}
	crashed.must(crashed.KillDvold())
	cut.must(cut.Cut(cut.ctx, lab.Consul))
	dead.must(dead.Kill())
	for _, h := range silent {
		h1.wantLive(h.Name(), false)
		forget := "dvold host forget " + h.Name()
		h1.dockerFails([]string{fmt.Sprintf("%q", h.Name()), "is silent and may still write", forget}, "volume", "rm", h.Name())
		h1.dockerFails([]string{forget}, "volume", "rm", "all")
		if table := h1.dvold("volume", "inspect", h.Name()); !strings.Contains(table, "host "+h.Name()+" (silent)") {
			t.Errorf("inspect says %s, want %s as a silent holder", table, h.Name())
		}
	}

	// Back, with its container still running.
	crashed.must(crashed.StartDvold(crashed.ctx))
	h1.wantLive("h2", true)
	live(crashed)
	crashed.removeContainer("box", "all")
	h1.wantHolders("h2")
	h1.docker("volume", "rm", "h2")

	// Forgotten and removed, although it was only cut off and its container
	// writes on; then it is back.
	h1.dvold("host", "forget", "h3")
	h1.docker("volume", "rm", "h3")
	h1.dockerFails([]string{"dvold host forget h4"}, "volume", "rm", "all")
	h1.dvold("host", "forget", "h4")
	h1.docker("volume", "rm", "h4")
	cut.must(cut.Heal(cut.ctx))
	cut.must(cut.Rejoin(cut.ctx))
	h1.wantLive("h3", true)
	h1.wantHolders("all", "h3")
	cut.eventually("says that its volume was removed", func() error {
		if !strings.Contains(cut.Logs(), "a volume that is mounted here was removed by another host") {
			return fmt.Errorf("its log does not say so")
		}
		return nil
	})
	want(t, "container on h3 runs", cut.docker("inspect", "box", "--format", "{{.State.Running}}"), "true")
	h1.dvold("trash", "restore", "h3") // and nothing is lost
	c.wantNoGap("h3")
	cut.removeContainer("box", "all")
	h1.wantHolders("h3")
	h1.wantHolders("all")
	h1.docker("volume", "rm", "all")

	// Forgotten, and then it turns out that it was not off for good.
	for _, m := range h1.members() {
		if m.Name == "h4" {
			t.Errorf("h4 is still a member after it was forgotten: %+v", m)
		}
	}
	dead.must(dead.Boot(dead.ctx))
	dead.must(dead.StartAll(dead.ctx))
	h1.wantLive("h4", true)
	dead.dockerFails([]string{"no such volume"}, "start", "box")
	dead.sh("again", "echo 1 >/data/file")
	want(t, "what h1 reads", h1.sh("again", "cat /data/file"), "1")
}

func testDrain(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	h2.start("box", idle, "old:/data")
	h1.create("new")
	h1.dvold("host", "drain", "h2")
	h2.wantDraining(true)
	h1.wantDraining(true)
	if table := h1.dvold("host", "ls"); !strings.Contains(table, "draining") {
		c.t.Errorf("host ls says %s", table)
	}
	_, err := h2.trySh("new", "true")
	h2.fails("mount while drained", err, `"h2" is being drained`, "dvold host undrain h2")
	h2.sh("old", "true") // is mounted already
	c.h(3).sh("new", "true")
	h1.dvold("host", "undrain", "h2")
	h2.sh("new", "true")
	h1.wantDraining(false)
}

// wantDraining waits until this host sees that h2 is being drained, or isn't. The
// list may be a moment out of date.
func (h *host) wantDraining(draining bool) {
	h.t.Helper()
	h.eventually("draining of h2", func() error {
		m, err := h.member("h2")
		if err == nil && m.Draining != draining {
			err = fmt.Errorf("it is %v", m.Draining)
		}
		return err
	})
}

func testOperatorsView(c *cluster) {
	for _, h := range c.hosts {
		h.start("box", idle, "all:/data")
	}
	var ids []string
	for _, h := range c.hosts {
		h.wantHolders("all", "h1", "h2", "h3")
		for _, m := range h.members() {
			if !m.Live || m.Holds != 1 || m.Incarnation == 0 {
				c.t.Errorf("%s sees %+v, want it live with one volume", h.Name(), m)
			}
		}
		s := ask[show](h, "cluster", "show")
		want(c.t, "problem on "+h.Name(), s.Problem, "")
		ids = append(ids, s.ID)
		h.dvoldFails([]string{"it is live"}, "host", "forget", "h1")
		h.dvoldFails([]string{"no such host"}, "host", "forget", "h9")
		h.dvoldFails([]string{"nothing is wrong"}, "cluster", "accept")
	}
	if ids[0] == "" || ids[1] != ids[0] || ids[2] != ids[0] {
		c.t.Errorf("cluster IDs = %v", ids)
	}
	for args, words := range map[string][]string{
		"host ls":            {"h1", "h2", "h3", "this host"},
		"pool ls":            {"data", "own", "h1,h2,h3"},
		"volume inspect all": {"host h1 (this host), since", "host h2, since", "host h3, since"},
		"cluster show":       {ids[0], "are believed"},
	} {
		out := c.h(1).dvold(strings.Fields(args)...)
		for _, word := range words {
			if !strings.Contains(out, word) {
				c.t.Errorf("dvold %s: %s; want %q in it", args, out, word)
			}
		}
	}
}

// wantNoGap checks that whatever beats in a volume never paused.
func (c *cluster) wantNoGap(name string) {
	c.t.Helper()
	const limit = 3 * time.Second // all else runs on this machine, too
	if gap := longest(c.t, c.data(name)+"/beats"); gap > limit {
		c.t.Errorf("the container that writes to %s paused for %v", name, gap)
	}
}
