package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// patience bounds every wait for something that should happen soon. A host that
// falls silent is noticed within two leases.
const patience = 45 * time.Second

// host is a lab.Host whose failures end the test.
type host struct {
	*lab.Host
	t   *testing.T
	ctx context.Context

	beats string // how often its containers that write do so
}

// in is the host for another test, or another time.
func (h *host) in(t *testing.T, ctx context.Context) *host {
	return &host{h.Host, t, ctx, h.beats}
}

// must ends the test on an error.
func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// docker runs a docker command that must succeed.
func (h *host) docker(args ...string) string {
	h.t.Helper()
	out, err := h.Docker(h.ctx, args...)
	h.must(err)
	return out
}

// dvold runs a dvold command that must succeed.
func (h *host) dvold(args ...string) string {
	h.t.Helper()
	out, err := h.Dvold(h.ctx, args...)
	h.must(err)
	return out
}

// fails checks that something failed, with an error that has the given words.
func (h *host) fails(what string, err error, words ...string) {
	h.t.Helper()
	if err == nil {
		h.t.Errorf("%s: %s succeeded, want an error with %q", h.Name(), what, words)
	} else if !hasWords(err, words...) {
		h.t.Errorf("%s: %s: %v; want %q in it", h.Name(), what, err, words)
	}
}

// dockerFails runs a docker command that must not succeed, with an error that
// has the given words.
func (h *host) dockerFails(words []string, args ...string) {
	h.t.Helper()
	_, err := h.Docker(h.ctx, args...)
	h.fails("docker "+strings.Join(args, " "), err, words...)
}

// dvoldFails is dockerFails for a dvold command.
func (h *host) dvoldFails(words []string, args ...string) {
	h.t.Helper()
	_, err := h.Dvold(h.ctx, args...)
	h.fails("dvold "+strings.Join(args, " "), err, words...)
}

func hasWords(err error, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			return false
		}
	}
	return true
}

// create makes a volume with options KEY=VALUE.
func (h *host) create(name string, options ...string) {
	h.t.Helper()
	h.must(h.CreateVolume(h.ctx, "dvol", name, options...))
}

// sh runs a script in a new container that has a volume at /data, and returns
// what it prints.
func (h *host) sh(volume, script string) string {
	h.t.Helper()
	out, err := h.trySh(volume, script)
	h.must(err)
	return out
}

func (h *host) trySh(volume, script string) (string, error) {
	return h.RunToEnd(h.ctx, lab.Container{Binds: []string{volume + ":/data"}, Driver: "dvol", Command: []string{"sh", "-c", script}})
}

// start starts a container that runs a script, with volumes as VOLUME:/TARGET.
func (h *host) start(name, script string, binds ...string) {
	h.t.Helper()
	h.must(h.Run(h.ctx, lab.Container{Name: name, Binds: binds, Driver: "dvol", Command: []string{"sh", "-c", script}}))
}

// Scripts of containers: one that does nothing, and one that writes the time,
// in seconds since some other time, again and again.
const (
	idle = "exec sleep 1000"
	beat = "while read t _ </proc/uptime && echo $t >>/data/beats; do sleep 0.05; done"
)

// removeContainers removes all there are.
func (h *host) removeContainers() {
	h.t.Helper()
	ids, err := h.Containers(h.ctx)
	h.must(err)
	h.must(h.RemoveContainers(h.ctx, ids...))
}

// removeContainer removes some that may not be there.
func (h *host) removeContainer(names ...string) {
	h.t.Helper()
	h.must(h.RemoveContainers(h.ctx, names...))
}

// wantMounts waits until n volumes are mounted.
func (h *host) wantMounts(n int) {
	h.t.Helper()
	h.eventually("number of mounts", func() error {
		mounts, err := h.Mounts("/run/dvol/mnt")
		if err == nil && len(mounts) != n {
			err = fmt.Errorf("%d are mounted, want %d: %v", len(mounts), n, mounts)
		}
		return err
	})
}

// wantNoRaces reports what the race detector found in dvold, and panics.
func (h *host) wantNoRaces() {
	h.t.Helper()
	reports, err := filepath.Glob(h.Path("race.*"))
	h.must(err)
	for _, file := range reports {
		report, err := os.ReadFile(file)
		h.t.Errorf("data race in dvold of %s: %s %v", h.Name(), report, err)
	}
	if log, err := os.ReadFile(h.Path("dvold.log")); err != nil || bytes.Contains(log, []byte("panic")) {
		h.t.Errorf("dvold of %s panicked, see its log (%v)", h.Name(), err)
	}
}

// eventually waits until check returns nil.
func (h *host) eventually(what string, check func() error) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %s: not as wanted within %v: %v", h.Name(), what, patience, err)
		}
	}
}

// within runs something that must succeed in a given time.
func (h *host) within(limit time.Duration, what string, do func() error) {
	h.t.Helper()
	began := time.Now()
	err := do()
	if took := time.Since(began); err != nil || took > limit {
		h.t.Errorf("%s: %s took %v, want at most %v: %v", h.Name(), what, took.Round(time.Millisecond), limit, err)
	}
}

// answer is what the plugin socket says.
type answer struct {
	Err        string
	Mountpoint string
}

// plugin calls dvold as the engine does, without its memory.
func (h *host) plugin(call string, request any) (a answer, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return a, err
	}
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Path("run/docker/plugins/dvol.sock"))
	}}
	req, err := http.NewRequestWithContext(h.ctx, http.MethodPost, "http://dvold/VolumeDriver."+call, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if err = json.NewDecoder(resp.Body).Decode(&a); err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	return a, err
}

// request is what the tests tell the plugin socket.
type request struct {
	Name, ID string
	Opts     map[string]string `json:",omitempty"`
}

// want compares two values.
func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
