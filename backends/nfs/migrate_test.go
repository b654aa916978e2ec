package nfs_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/migrate"
	"github.com/dvol/dvold/internal/volumes"
)

func testMigrateToGanesha(t *testing.T, s server) { testMigrate(t, newPool(t, s.exported, "4.2")) }

// The kernel's server tells of ACLs where its file system has them.
func testMigrateToKnfsd(t *testing.T, s *fencing) {
	for _, version := range []string{"3", "4.2"} {
		t.Run(version, func(t *testing.T) {
			c := nfs.DefaultConfig()
			c.Server, c.Export, c.Subdir, c.Version = serverAddress, s.path, "migrated-"+version, version
			if version == "3" {
				c.Export, c.Options = s.disk, []string{"nolock", "mountport=20048"}
			}
			hosttest.Subdir(t, s.disk, c.Subdir)
			testMigrate(t, c)
		})
	}
}

// testMigrate brings volumes of Docker's local driver to a pool, which may give files
// attributes of its server's own.
func testMigrate(t *testing.T, c nfs.Config) {
	p, dir := openPool(t, hosttest.Dir(t), c), hosttest.Dir(t)
	ctx, log := context.WithoutCancel(t.Context()), slog.New(slog.NewTextHandler(t.Output(), nil))
	coord, err := embedded.Open(ctx, embedded.Config{Path: filepath.Join(dir, "cluster.db")}, log)
	if err != nil {
		t.Fatal(err)
	}
	manager, err := volumes.Open(ctx, volumes.Config{
		Host: "h1", StateDir: dir, RunDir: filepath.Join(dir, "run"), DefaultPool: "p",
		Pools: []volumes.Pool{{Name: "p", Type: "nfs", Backend: p, TrashTTL: time.Hour}},
	}, coord, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := errors.Join(manager.Close(ctx), coord.Close()); err != nil {
			t.Error(err)
		}
	})
	data := hosttest.Subdir(t, dir, "docker/volumes/data/_data")
	path := func(name string) string { return filepath.Join(data, name) }
	stamp := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	err = errors.Join(
		os.Mkdir(path("dir"), 0o2770), os.WriteFile(path("dir/file"), []byte("text"), 0o640), os.Chown(path("dir/file"), 70000, 1),
		os.Link(path("dir/file"), path("link")), os.Symlink("dir/file", path("symlink")), unix.Mkfifo(path("pipe"), 0o620),
		os.Truncate(path("dir/file"), 1<<20), os.Chtimes(path("dir/file"), stamp, stamp), os.Chown(data, 70000, 70000),
	)
	if err != nil {
		t.Fatal(err)
	}
	// It compares what it has made with the original.
	got, err := migrate.New(manager, log).Migrate(t.Context(), migrate.Request{Name: "data", DockerRoot: filepath.Join(dir, "docker")})
	if err != nil || got.Files != 5 || got.Bytes == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}
