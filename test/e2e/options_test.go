package e2e_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOwnerAndMode(t *testing.T) {
	h := sharedHost(t)
	h.create("store", "-o", "uid=1000", "-o", "gid=2000", "-o", "mode=2770")
	want(t, "root of the volume", h.sh("stat -c '%u:%g %a' /data", "-v", "store:/data"), "1000:2000 2770")
	want(t, "files of its user", h.sh("touch /data/file && stat -c %u:%g /data/file", "-v", "store:/data", "-u", "1000:1000"), "1000:2000")
}

func TestRetain(t *testing.T) {
	h := sharedHost(t)
	for name, option := range map[string]string{"kept": "retain=true", "dropped": "retain=false"} {
		h.create(name, "-o", option)
		h.sh("echo "+name+" >/data/file", "-v", name+":/data")
		h.docker("volume", "rm", name)
	}
	var trash []struct {
		Name    string
		PurgeAt *time.Time `json:"purge_at"`
	}
	h.must(json.Unmarshal([]byte(h.dvold("trash", "ls", "--output", "json")), &trash))
	if len(trash) != 2 {
		t.Fatalf("trash = %v, want 2 volumes", trash)
	}
	for _, v := range trash {
		if kept := v.PurgeAt == nil; kept != (v.Name == "kept") {
			t.Errorf("%s is to be purged at %v", v.Name, v.PurgeAt)
		}
	}
	h.dvold("trash", "restore", "kept")
	want(t, "content", h.sh("cat /data/file", "-v", "kept:/data"), "kept")
}

func TestAdopt(t *testing.T) {
	h := sharedHost(t)
	dir := filepath.Join(h.StateDir(), "pools/local/legacy/app")
	h.must(os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(dir)) })
	h.must(os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o644))
	h.create("store", "-o", "adopt=legacy/app")
	want(t, "content", h.sh("cat /data/file; touch /data/new", "-v", "store:/data"), "old")
	h.docker("volume", "rm", "store")
	h.dvold("trash", "purge", "--all")
	for _, name := range []string{"file", "new"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("adopted data: %v", err)
		}
	}
	h.dockerFails([]string{"nothing-here"}, "volume", "create", "-d", "dvol", "-o", "adopt=nothing-here", "other")
	h.dockerFails([]string{"adopt"}, "volume", "create", "-d", "dvol", "-o", "adopt=../../../..", "other")
}

func TestRefusedOptionsSayWhy(t *testing.T) {
	h := sharedHost(t)
	tests := map[string][]string{
		"colour=blue":    {"colour", "access", "adopt", "gid", "mode", "pool", "retain", "size", "uid"},
		"size=10G":       {"size", "local"},
		"size=much":      {"size", "much"},
		"uid=root":       {"uid", "root"},
		"mode=rwx":       {"mode", "rwx", "octal"},
		"retain=perhaps": {"retain", "perhaps", "true"},
		"pool=nowhere":   {"nowhere"},
		"access=private": {"access", "private", "shared"},
	}
	for option, words := range tests {
		h.dockerFails(words, "volume", "create", "-d", "dvol", "-o", option, "store")
	}
	want(t, "volumes", h.volumes(), "")
}

// The engine passes on any name.
func TestHostileNames(t *testing.T) {
	h := sharedHost(t)
	before := h.tree()
	names := []string{"../../etc/x", "..", "a/b", "/abs", "-rf", "two words", "line\nbreak", "x", "ünïcode", "a;reboot", strings.Repeat("n", 201)}
	for _, name := range names {
		h.dockerFails([]string{"name"}, "volume", "create", "-d", "dvol", "--", name)
		h.dockerFails(nil, "volume", "inspect", "--", name)
		h.dockerFails(nil, "volume", "rm", "--", name)
	}
	h.dockerFails([]string{"name"}, "run", "--rm", "--mount", "type=volume,volume-driver=dvol,src=../../etc/x,dst=/data", "lab/busybox", "true")
	if after := h.tree(); after != before {
		t.Errorf("files of dvold = %s, were %s", after, before)
	}
	if _, err := os.Lstat("/etc/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("/etc/x: %v, want none", err)
	}
	longest := strings.Repeat("n", 200)
	h.create(longest)
	want(t, "longest name", h.sh("touch /data/file && ls /data", "-v", longest+":/data"), "file")
}

// tree lists the files of dvold.
func (h *host) tree() string {
	h.t.Helper()
	var s strings.Builder
	err := filepath.WalkDir(h.StateDir(), func(path string, d fs.DirEntry, err error) error {
		s.WriteString(path + "\n")
		return err
	})
	h.must(err)
	return s.String()
}
