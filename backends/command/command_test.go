package command_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/command"
	"github.com/dvol/dvold/internal/host/hosttest"
)

const pool = "data"

// script writes a program of sh that root alone can change, and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	hosttest.Root(t)
	path := filepath.Join(t.TempDir(), "fence")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(covers string, argv ...string) *command.Fencer {
	c := command.Config{Argv: argv, Timeout: time.Minute, Covers: covers}
	return command.Open(c, pool, slog.New(slog.DiscardHandler))
}

// aFence is one that any command covers.
func aFence() backends.Fence {
	return backends.Fence{
		Host: "h1", Incarnation: 7, Pool: pool, Volume: "db", ID: "db.0123456789ab", Handle: "volumes/db.0123456789ab", Epoch: 3,
		Identity: backends.Identity{Domain: "volume/data/x"},
	}
}

func TestValidate(t *testing.T) {
	fence := script(t, "exit 0")
	valid := func() command.Config {
		return command.Config{Argv: []string{fence, "--off", ""}, Timeout: 20 * time.Second, Covers: "volume", Facts: map[string]string{"ipmi": "10.0.0.7", "a.b-C_1": ""}}
	}
	for _, change := range []func(*command.Config){
		func(*command.Config) {},
		func(c *command.Config) { c.Timeout = time.Second },
		func(c *command.Config) { c.Timeout = 80 * time.Second },
		func(c *command.Config) { c.Covers = "pool" },
		func(c *command.Config) { c.Covers = "host" },
		func(c *command.Config) { c.Facts = nil },
		func(c *command.Config) { c.Facts["größe"[:2]] = strings.Repeat("ö", 512) },
	} {
		c := valid()
		change(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for says, change := range map[string]func(*command.Config){
		`fence_command: []`:                     func(c *command.Config) { c.Argv = nil },
		`fence_command: ["fence" "x"]`:          func(c *command.Config) { c.Argv = []string{"fence", "x"} },
		`fence_command: ["./fence"]`:            func(c *command.Config) { c.Argv = []string{"./fence"} },
		`has a zero byte`:                       func(c *command.Config) { c.Argv = append(c.Argv, "a\x00b") },
		`fence_timeout: 999ms`:                  func(c *command.Config) { c.Timeout = 999 * time.Millisecond },
		`fence_timeout: 1m20.001s`:              func(c *command.Config) { c.Timeout = 80001 * time.Millisecond },
		`fence_covers: ""`:                      func(c *command.Config) { c.Covers = "" },
		`fence_covers: "Host"`:                  func(c *command.Config) { c.Covers = "Host" },
		`fence_facts: "" is not`:                func(c *command.Config) { c.Facts[""] = "x" },
		`fence_facts: "a b" is not`:             func(c *command.Config) { c.Facts["a b"] = "x" },
		`fence_facts: "1a" is not`:              func(c *command.Config) { c.Facts["1a"] = "x" },
		`fence_facts: ipmi: "a\nb"`:             func(c *command.Config) { c.Facts["ipmi"] = "a\nb" },
		`fence_facts: ipmi: "\xff"`:             func(c *command.Config) { c.Facts["ipmi"] = "\xff" },
		`fence_facts: ipmi has 1025 bytes`:      func(c *command.Config) { c.Facts["ipmi"] = strings.Repeat("x", 1025) },
		`"a.b-C_1" and "a.b.C.1" are both DVOL`: func(c *command.Config) { c.Facts["a.b.C.1"] = "" },
		`33 are more than 32`: func(c *command.Config) {
			for i := range 31 {
				c.Facts[fmt.Sprintf("f%d", i)] = ""
			}
		},
	} {
		c := valid()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %s", err, says)
		}
	}
}

func TestIdentity(t *testing.T) {
	facts := map[string]string{"ipmi": "10.0.0.7"}
	domains := make(map[string]bool)
	for covers, want := range map[string]string{"host": "host", "pool": "pool/data", "volume": "volume/data/"} {
		f := command.Open(command.Config{Covers: covers, Facts: facts}, pool, slog.New(slog.DiscardHandler))
		for _, handle := range []string{"volumes/a.0123456789ab", "old data/größe", strings.Repeat("long/", 800)} {
			got, err := f.Identity(t.Context(), handle)
			again, _ := f.Identity(t.Context(), handle)
			if err != nil || !strings.HasPrefix(got.Domain, want) || got.Domain != again.Domain || got.Facts["ipmi"] != "10.0.0.7" {
				t.Errorf("%s: got %+v, then %+v, %v", covers, got, again, err)
			}
			if len(got.Domain) > 200 || strings.ContainsAny(got.Domain, " ö") {
				t.Errorf("%s: domain %q is not fit for a key", covers, got.Domain)
			}
			got.Facts["ipmi"] = "changed"
			domains[got.Domain] = true
		}
	}
	if len(domains) != 1+1+3 {
		t.Errorf("got domains %v, want one of the host, one of the pool, three of volumes", domains)
	}
	if facts["ipmi"] != "10.0.0.7" {
		t.Error("a caller changed the configuration")
	}
	other, _ := command.Open(command.Config{Covers: "volume"}, "other", slog.New(slog.DiscardHandler)).Identity(t.Context(), "volumes/a.0123456789ab")
	if domains[other.Domain] {
		t.Error("two pools have one domain for a handle")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open("host").Identity(ended, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// What another host recorded is what the proof will be for: a command that cuts
// off less must not run.
func TestCoverage(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	fence := script(t, "echo >"+ran)
	for _, c := range []struct {
		covers, domain string
		want           bool
	}{
		{"volume", "volume/data/0123", true}, {"volume", "volume/db.0123456789ab", true}, {"volume", "pool/data", false}, {"volume", "host", false},
		{"pool", "volume/data/0123", true}, {"pool", "pool/data", true}, {"pool", "pool/other", false}, {"pool", "host", false},
		{"host", "volume/data/0123", true}, {"host", "pool/data", true}, {"host", "host", true},
		{"volume", "gluster/gv0/10.0.0.1", false}, {"pool", "gluster/gv0/10.0.0.1", false}, {"host", "gluster/gv0/10.0.0.1", true},
		{"volume", "", false}, {"host", "", false}, {"volume", "volume", false},
	} {
		f := aFence()
		f.Identity.Domain = c.domain
		for action, do := range map[string]func(context.Context, backends.Fence) error{
			"fence": open(c.covers, fence).Fence, "unfence": open(c.covers, fence).Unfence,
		} {
			err := do(t.Context(), f)
			_, statErr := os.Stat(ran)
			if (err == nil) != c.want || (statErr == nil) != c.want {
				t.Errorf("%s that covers a %s of %q: got %v; ran: %t, want %t", action, c.covers, c.domain, err, statErr == nil, c.want)
			}
			os.Remove(ran)
		}
	}
	f := aFence()
	f.Host = ""
	if err := open("host", fence).Fence(t.Context(), f); err == nil {
		t.Error("a fence of no host: got no error")
	}
}

func TestEffect(t *testing.T) {
	for covers, says := range map[string]string{"volume": "this volume", "pool": `all volumes of pool "data"`, "host": "all that it writes to"} {
		got := open(covers, "/sbin/fence", "--off").Effect(aFence())
		if !strings.Contains(got, says) || !strings.Contains(got, "/sbin/fence") || !strings.Contains(got, `"h1"`) || strings.Contains(got, "\n") {
			t.Errorf("%s: got %q", covers, got)
		}
	}
	if got := open("host").Method(); got != "command" {
		t.Errorf("got method %q", got)
	}
}
