package cluster_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// scriptedFence is a fence command that does what the file /shared/fence.POOL
// says, refuses if there is none, and writes down what it was asked.
const scriptedFence = `
echo "$DVOL_ACTION $DVOL_HOST $DVOL_POOL $DVOL_VOLUME" >>/shared/fences
read -r how <"/shared/fence.$DVOL_POOL" || exit 1
case $how in
real) exec ` + lab.FenceCommand + ` ;;
lie) exit 0 ;;
status) echo "the switch is on holiday" >&2 && exit 3 ;;
hang) exec sleep 60 ;;
killed) kill -KILL $$ ;;
late) ` + lab.FenceCommand + ` && echo "$DVOL_VOLUME" >/shared/late && exec sleep 60 ;;
esac
exit 1
`

// scriptedPool is the configuration of a pool with a scripted fence.
func scriptedPool(name, path, exclusive string) string {
	return fmt.Sprintf("  %s: {type: local, path: %s, shared: true, exclusive: {fence_command: [/bin/sh, /shared/fence], %s}}\n", name, path, exclusive)
}

// fenceBy has the scripted fence of a pool do that from now on.
func (c *cluster) fenceBy(pool, how string) {
	c.t.Helper()
	for name, text := range map[string]string{"shared/fence": scriptedFence, "shared/fence." + pool: how + "\n"} {
		file := c.Path(name)
		if err := os.WriteFile(file+".new", []byte(text), 0o755); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			c.t.Fatal(err)
		}
	}
}

// fences counts how often scripted fences were asked to do what begins with that:
// "fence HOST POOL VOLUME".
func (c *cluster) fences(words string) (n int) {
	c.t.Helper()
	text, err := os.ReadFile(c.Path("shared/fences"))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(strings.TrimSpace(line)+" ", words+" ") {
			n++
		}
	}
	return n
}

// wantTwoWriters waits until what was written shows that two hosts did so at
// once: that is how a test of the above kind fails.
func (c *cluster) wantTwoWriters(p place, order ...string) {
	c.t.Helper()
	c.h(1).eventually("two writers of "+p.name, func() error {
		beats, err := c.beatsOf(p.pool, p.name)
		if len(beats) == 0 {
			return err
		}
		if _, err = oneWriter(beats, order); err == nil || !strings.Contains(err.Error(), "two hosts wrote at once") {
			return fmt.Errorf("in %d beats of %v: %v", len(beats), order, err)
		}
		return nil
	})
}

// Fences that lie, and hosts that cut nothing off, are found out by what the
// tests look at: else those could not fail. And a fence that says anything but
// yes, in time, is none.
func TestHazard14NegativeControls(t *testing.T) {
	c := ownTakeoverCluster(t, 3, 1, func(_, configuration string) string {
		return configuration + `  liar: {type: local, path: /shared/liar, shared: true, exclusive: {fence_command: [/bin/true], fence_covers: pool}}
  cuts: {type: local, path: /shared/cuts, shared: true, exclusive: {fence_command: [/bin/true], fence_covers: pool, on_session_loss: cut}}
` + scriptedPool("faulty", "/dfs/faulty", "fence_covers: pool, fence_timeout: 4s")
	})
	h1, h2, h3 := c.h(1), c.h(2), c.h(3)
	h3.must(h3.Guard.Kill()) // what it promises from now on is not guarded
	all := map[*host][]place{
		h1: {{"liar", "liar"}, {"faulty", "faulty"}},
		h3: {{"cuts", "unguarded"}, {"shared", "unpromised"}},
	}
	for h, places := range all {
		for _, p := range places {
			h.createExclusive(p.pool, p.name)
			h.beat(p.name, p.name)
			c.must(c.beatsOn(p, h, 0))
		}
	}
	h1.must(h1.Cut(h1.ctx, lab.Consul))
	h3.must(h3.FreezeDvold())
	cut := lab.SinceBoot()

	// The fence is /bin/true, and who is to be cut off lives and writes.
	h2.takeOver("liar", "liar", cut, 3*lease+machineTime)
	c.wantTwoWriters(place{"liar", "liar"}, "h1", "h2")
	h2.wantOwner("liar", "h2", 2)

	faulty := place{"faulty", "faulty"}
	for _, fence := range []struct {
		how, says string
		writes    bool // the owner, afterwards
	}{
		{"status", "the switch is on holiday", true},
		{"hang", "no answer within 4s", true},
		{"killed", "signal: killed", true},
		{"late", "no answer within 4s", false},
	} {
		c.fenceBy("faulty", fence.how)
		asked := c.fences("fence h1 faulty faulty")
		err := h2.tryBeat("faulty", "faulty")
		if fence.how == "late" {
			for _, err := os.Stat(c.Path("shared/late")); err != nil; _, err = os.Stat(c.Path("shared/late")) { // it was too slow even for that
				h2.removeContainer("faulty")
				h2.fails("takeover with a fence that says yes late", h2.tryBeat("faulty", "faulty"), fence.says)
			}
		}
		h2.fails("takeover with a fence that does this: "+fence.how, err, `owned by host "h1"`, "was not cut off", fence.says)
		h2.removeContainer("faulty")
		if c.fences("fence h1 faulty faulty") <= asked {
			t.Errorf("a fence that does this was not asked: %s", fence.how)
		}
		if o := h2.owner("faulty"); o.Host != "h1" || o.Epoch != 1 || o.Proof != "" {
			t.Errorf("a fence that does this was taken for one: %s: %+v", fence.how, o)
		}
		if fence.writes {
			c.must(c.beatsOn(faulty, h1, lab.SinceBoot()))
		}
	}
	c.fenceBy("faulty", "real")
	h2.takeOver("faulty", "faulty", lab.SinceBoot(), patience)
	c.must(c.beatsOn(faulty, h2, 0))
	h2.wantOwner("faulty", "h2", 2)

	// No guard, a dvold that can't either, and a fence that says otherwise.
	h2.takeOver("unguarded", "unguarded", cut, 3*lease+machineTime)
	c.wantTwoWriters(place{"cuts", "unguarded"}, "h3", "h2")
	// Without such a lie nobody takes the word of who promised nothing.
	h2.fails("takeover from a host without a guard", h2.tryBeat("unpromised", "unpromised"), `owned by host "h3"`, "did not promise to cut itself off", "dvold volume release")
	c.must(c.beatsOn(place{"shared", "unpromised"}, h3, lab.SinceBoot()))
	h2.removeContainer("unpromised")

	c.must(h1.back(c))
	c.wantOneWriter("faulty", "faulty", "h1", "h2")
	c.must(h3.back(c))
}

// must ends the test on an error.
func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}
