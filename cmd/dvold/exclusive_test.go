package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/config"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
	"github.com/dvol/dvold/internal/volumes"
)

func TestSettleExclusive(t *testing.T) {
	const (
		auto, manual, never = volumes.TakeoverAuto, volumes.TakeoverManual, volumes.TakeoverNever
		keep, cut           = standing.Keep, standing.Cut
	)
	for _, c := range []struct {
		takeover, loss           string // configured
		accept, fences, watchdog bool
		wantTakeover             volumes.Takeover
		wantLoss                 standing.Policy
		wantAccept               bool
		wantErr                  string // begins so
	}{
		// Nothing is said.
		{wantTakeover: manual, wantLoss: cut},
		{fences: true, wantTakeover: auto, wantLoss: keep},
		{watchdog: true, wantTakeover: manual, wantLoss: cut},
		{fences: true, watchdog: true, wantTakeover: auto, wantLoss: keep},
		// auto needs something to rest on.
		{takeover: "auto", wantErr: "exclusive.takeover: auto is not safe"},
		{takeover: "auto", loss: "cut", wantErr: "exclusive.takeover: auto is not safe"},
		{takeover: "auto", accept: true, wantTakeover: auto, wantLoss: cut, wantAccept: true},
		{takeover: "auto", watchdog: true, wantTakeover: auto, wantLoss: cut, wantAccept: true},
		{takeover: "auto", fences: true, wantTakeover: auto, wantLoss: keep},
		{takeover: "auto", fences: true, accept: true, loss: "cut", wantTakeover: auto, wantLoss: cut},
		// So does keep, if anybody may take over.
		{takeover: "auto", loss: "keep", wantErr: "exclusive.on_session_loss: keep is not safe"},
		{takeover: "auto", loss: "keep", accept: true, wantErr: "exclusive.on_session_loss: keep is not safe"},
		{takeover: "auto", loss: "keep", watchdog: true, wantErr: "exclusive.on_session_loss: keep is not safe"},
		{takeover: "auto", loss: "keep", fences: true, wantTakeover: auto, wantLoss: keep},
		{loss: "keep", wantTakeover: manual, wantLoss: keep},
		{takeover: "manual", loss: "keep", wantTakeover: manual, wantLoss: keep},
		{takeover: "never", loss: "keep", wantTakeover: never, wantLoss: keep},
		{takeover: "never", watchdog: true, wantTakeover: never, wantLoss: cut},
		{takeover: "manual", fences: true, wantTakeover: manual, wantLoss: keep},
		{takeover: "never", fences: true, loss: "cut", wantTakeover: never, wantLoss: cut},
		{fences: true, loss: "cut", wantTakeover: auto, wantLoss: cut},
		// What accepts something that nobody does is a mistake.
		{accept: true, wantErr: "exclusive.accept_lease: "},
		{accept: true, watchdog: true, wantErr: "exclusive.accept_lease: "},
		{accept: true, fences: true, wantTakeover: auto, wantLoss: keep},
	} {
		given := config.Exclusive{Takeover: c.takeover, OnSessionLoss: c.loss, AcceptLease: c.accept}
		got, err := settleExclusive(given, c.fences, c.watchdog)
		want := volumes.Exclusive{Takeover: c.wantTakeover, OnSessionLoss: c.wantLoss, AcceptLease: c.wantAccept}
		if c.wantErr != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.wantErr) {
				t.Errorf("%+v: got %+v, %v, want error %s", c, got, err, c.wantErr)
			}
		} else if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: got %+v, %v", c, got, err)
		}
	}
}

func TestSettleExclusiveKeepsTheRest(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	got, err := settleExclusive(config.Exclusive{MountWait: config.Duration{Duration: time.Minute}, Servers: []config.Network{{Prefix: prefix}}}, true, false)
	if err != nil || got.MountWait != time.Minute || !reflect.DeepEqual(got.Servers, []netip.Prefix{prefix}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// fenceProgram is one that config takes.
func fenceProgram(t *testing.T) string {
	t.Helper()
	hosttest.Root(t)
	path := filepath.Join(t.TempDir(), "fence")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenFencer(t *testing.T) {
	fence := fenceProgram(t)
	cfg := loadText(t, `default_pool: own
pools:
  own: {type: local, path: DIR/own}
  nas:
    type: local
    path: DIR/nas
    exclusive: {fence_command: [`+fence+`, --off], fence_covers: pool, fence_facts: {ipmi: 10.0.0.7}, mount_wait: 5s}
`)
	pools, err := openPools(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		if p.Name == "own" {
			if p.Fencer != nil || p.Exclusive.Takeover != volumes.TakeoverManual || p.Exclusive.OnSessionLoss != standing.Cut || p.Exclusive.MountWait != 30*time.Second {
				t.Errorf("without a fence: got %+v", p)
			}
			continue
		}
		if p.Fencer == nil || p.Exclusive.Takeover != volumes.TakeoverAuto || p.Exclusive.OnSessionLoss != standing.Keep || p.Exclusive.MountWait != 5*time.Second {
			t.Fatalf("with a command: got %+v", p)
		}
		id, err := p.Fencer.Identity(t.Context(), "volumes/x")
		if err != nil || id.Domain != "pool/nas" || id.Facts["ipmi"] != "10.0.0.7" || p.Fencer.Method() != "command" {
			t.Errorf("got %+v, %v of a fencer %q", id, err, p.Fencer.Method())
		}
	}
}

// dvold config check, and so dvold serve, says what is wrong about exclusive
// volumes, and what to do.
func TestConfigCheckExclusive(t *testing.T) {
	fence := fenceProgram(t)
	open := filepath.Join(filepath.Dir(fence), "open")
	if err := os.WriteFile(open, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dvold.yaml")
	for content, want := range map[string]string{
		"{fence_command: [" + fence + "]}":                                     "",
		"{takeover: auto, accept_lease: true}":                                 "",
		"{on_session_loss: keep}":                                              "",
		"{takeover: auto}":                                                     `pool "a": exclusive.takeover: auto is not safe, for the pool has no fence: set exclusive.fence_command`,
		"{takeover: auto, on_session_loss: keep}":                              `pool "a": exclusive.on_session_loss: keep is not safe with takeover: auto, for the pool has no fence`,
		"{accept_lease: true}":                                                 `pool "a": exclusive.accept_lease: it is about takeover: auto`,
		"{takeover: sometimes}":                                                `:1: pools.a.exclusive.takeover: "sometimes" is not one of`,
		"{fence_command: [" + fence + ".none]}":                                `pool "a": exclusive.fence_command: lstat ` + fence + `.none: no such file or directory`,
		"{fence_command: [" + open + "]}":                                      `pool "a": exclusive.fence_command: ` + open + ` is writable by others than root`,
		"{fence_command: [" + fence + "], fence_facts: {a b: x}}":              `pool "a": exclusive.fence_facts: "a b" is not a name`,
		"{fence_command: [" + fence + "], fence_facts: {a-b: x, a_b: y}}":      `are both DVOL_FACT_A_B`,
		"{fence_command: [" + fence + "], takeover: auto, accept_lease: true}": "",
	} {
		if err := os.WriteFile(file, fmt.Appendf(nil, "pools: {a: {type: local, exclusive: %s}}\n", content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), []string{"config", "check", "--config", file}, t.Output(), t.Output())
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
	const watched = "guard: {watchdog: /dev/watchdog}\npools: {a: {type: local, exclusive: {takeover: auto}}}\n"
	if err := os.WriteFile(file, []byte(watched), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"config", "check", "--config", file}, t.Output(), t.Output()); err != nil {
		t.Errorf("with a watchdog: %v", err)
	}
}

func TestLeaseThatIsTooLongToBeWaitedFor(t *testing.T) {
	cfg := loadText(t, `coordination: {type: consul, lease_ttl: 80s}
pools:
  nas: {type: local, path: DIR/nas, exclusive: {takeover: auto, accept_lease: true}}
`)
	if _, err := openPools(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "lease_ttl") {
		t.Errorf("got %v", err)
	}
}
