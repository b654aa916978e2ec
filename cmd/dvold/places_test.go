package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/backends/nfs"
)

// No directory may become a volume of two pools, nor dvold's own one of any.
func TestPlaces(t *testing.T) {
	for pools, want := range map[string]string{
		"a: {type: local, path: DIR/x}, b: {type: local, path: DIR/xy}":                                                                                                       "",
		"a: {type: local, path: DIR/state/pools/a}, b: {type: local, path: DIR/state/pools/b}":                                                                                "",
		"a: {type: local, path: DIR/x}, b: {type: local, path: DIR/./y/../x/}":                                                                                                `pools "a" and "b" overlap, at DIR/x and DIR/x: give each a directory of its own`,
		"a: {type: local, path: DIR/x}, b: {type: local, path: DIR/x/y}":                                                                                                      `pools "a" and "b" overlap, at DIR/x and DIR/x/y`,
		"a: {type: local, path: DIR/x/y/z}, b: {type: local, path: DIR/x}":                                                                                                    `pools "a" and "b" overlap, at DIR/x/y/z and DIR/x`,
		"a: {type: local, path: DIR/dir}, b: {type: local, path: DIR/link}":                                                                                                   `pools "a" and "b" overlap, at DIR/dir and DIR/link (which is DIR/dir)`,
		"a: {type: local, path: DIR/dir}, b: {type: local, path: DIR/link/new/one}":                                                                                           `pools "a" and "b" overlap, at DIR/dir and DIR/link/new/one (which is DIR/dir/new/one)`,
		"a: {type: local, path: DIR/x}, b: {type: local, path: DIR}":                                                                                                          `pools "a" and "b" overlap`,
		"a: {type: local, path: DIR/state}":                                                                                                                                   `pool "a": its path DIR/state has dvold's own state_dir in it, DIR/state: give it a directory of its own`,
		"a: {type: local, path: DIR}":                                                                                                                                         `pool "a": its path DIR has dvold's own state_dir in it, DIR/state`,
		"a: {type: local, path: /run}":                                                                                                                                        `pool "a": its path /run has dvold's own run_dir in it, /run/dvol`,
		"a: {type: nfs, server: n, export: DIR/x}, b: {type: local, path: DIR/x}":                                                                                             "",
		"a: {type: nfs, server: n, export: /x}, b: {type: nfs, server: n, export: /xy}":                                                                                       "",
		"a: {type: nfs, server: n, export: /x}, b: {type: nfs, server: m, export: /x}":                                                                                        "",
		"a: {type: nfs, server: n, export: /x, subdir: y}, b: {type: nfs, server: n, export: /x/y/z}":                                                                         `pools "a" and "b" overlap, at n:/x/y and n:/x/y/z: give each a directory of its own`,
		"a: {type: gluster, servers: [n1, n2], volume: gv0}, b: {type: gluster, servers: [n1, n2], volume: gv1}":                                                              "",
		"a: {type: gluster, servers: [n1, n2], volume: gv0, subdir: x}, b: {type: gluster, servers: [n3, n2], volume: gv0, subdir: /y}":                                       "",
		"a: {type: gluster, servers: [n1, n2], volume: gv0}, b: {type: gluster, servers: [n3, n2], volume: gv0, subdir: y}":                                                   `pools "a" and "b" overlap, at n1,n2:/gv0 and n3,n2:/gv0/y`,
		"a: {type: cephfs, filesystem: fs, cluster: {monitors: [c1]}}, b: {type: cephfs, filesystem: other, cluster: {monitors: [c1]}}":                                       "",
		"a: {type: cephfs, filesystem: fs, cluster: {conf: /c1}}, b: {type: cephfs, filesystem: fs, subvolume_group: x, cluster: {conf: /c1}}":                                "",
		"a: {type: cephfs, filesystem: fs, cluster: {conf: /c1}}, b: {type: cephfs, filesystem: fs, subdir: volumes, cluster: {conf: /c1}}":                                   `pools "a" and "b" overlap, at `,
		"a: {type: cephfs, filesystem: fs, cluster: {conf: /c1}}, b: {type: cephfs, filesystem: fs, subdir: volumes/x.0123456789ab/y, cluster: {conf: /c1}}":                  `pools "a" and "b" overlap, at `,
		"a: {type: cephfs, filesystem: fs, cluster: {conf: /c1}}, b: {type: cephfs, filesystem: fs, cluster: {conf: /c2}}":                                                    "",
		"a: {type: cephfs, filesystem: fs, cluster: {monitors: [c1]}, subdir: volumes}, b: {type: cephfs, filesystem: fs, cluster: {monitors: [c2, c1]}, subvolume_group: x}": `pools "a" and "b" overlap, at `,
	} {
		cfg := loadText(t, "default_pool: a\npools: {"+pools+"}\n")
		dir := filepath.Dir(cfg.StateDir)
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "dir"), 0o755), os.Symlink("dir", filepath.Join(dir, "link"))); err != nil {
			t.Fatal(err)
		}
		want = strings.ReplaceAll(want, "DIR", dir)
		if _, err := poolOpeners(t.Context(), cfg); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", pools, err, want)
		}
	}
}

// Nor may an export or a Gluster volume that two pools allow to be one as a whole.
func TestWholeStorageIsOnePoolsAlone(t *testing.T) {
	text := `default_pool: n1
pools:
  n1: {type: nfs, server: a, export: /x, shares: ["b:/*"]}
  n2: {type: nfs, server: a, export: /y, shares: ["b:/both", "b:/other"]}
  g1: {type: gluster, servers: [a], volume: gv1, gluster_volumes: ["*"]}
  g2: {type: gluster, servers: [a, b], volume: gv2, gluster_volumes: [both]}
`
	pools, err := openPools(t.Context(), loadText(t, text), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := closePools(pools); err != nil {
			t.Error(err)
		}
	}()
	for _, p := range pools {
		options := map[string]map[string]string{"nfs": {nfs.OptionShare: "b:/both"}, "gluster": {gluster.OptionVolume: "both"}}[p.Type]
		_, err := p.Backend.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Options: options})
		if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "two owners") {
			t.Errorf("pool %s: got %v, want %v", p.Name, err, backends.ErrInvalid)
		}
	}
}

// Who may run what root of a container left in a volume is told: whoever comes to the pool's directory.
func TestPoolsOpenToOthers(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "dvold-test-") // the tests' own may be root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	pool := filepath.Join(dir, "above", "pool")
	if err := errors.Join(os.MkdirAll(pool, 0o700), os.Symlink(pool, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		above, pool os.FileMode
		warned      bool
	}{{0o755, 0o700, false}, {0o700, 0o755, false}, {0o755, 0o711, true}, {0o710, 0o750, true}} {
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(pool), test.above), os.Chmod(pool, test.pool)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{pool, filepath.Join(dir, "link")} {
			var log bytes.Buffer
			pools, err := openPools(t.Context(), loadText(t, "default_pool: a\npools: {a: {type: local, path: "+path+"}}\n"), slog.New(slog.NewTextHandler(&log, nil)))
			if err = errors.Join(err, closePools(pools)); err != nil {
				t.Fatal(err)
			}
			if warned := strings.Contains(log.String(), "chmod 0700 "+path); warned != test.warned {
				t.Errorf("%s, %v in %v: warned is %t: %s", path, test.pool, test.above, warned, &log)
			}
		}
	}
	missing := filepath.Join(dir, "missing")
	if findPlace(t.Context(), missing).open {
		t.Error("a directory that is not there yet counts as open")
	}
}

// The state directory of an earlier dvold let others through, to the default pool; one of
// another mode is as somebody wants it.
func TestStateDirIsRootsAlone(t *testing.T) {
	for mode, want := range map[os.FileMode]os.FileMode{0: 0o700, 0o711: 0o700, 0o700: 0o700, 0o755: 0o755} {
		path := filepath.Join(t.TempDir(), "var", "state")
		if mode != 0 {
			if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
		if err := makeStateDir(path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%v became %v (%v), want %v", mode, info.Mode(), err, want)
		}
	}
}
