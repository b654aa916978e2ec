package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/migrate"
)

func migrateCommand() *cobra.Command {
	return group("migrate", "Bring volumes of other drivers to dvol", migrateLocalCommand())
}

func migrateLocalCommand() *cobra.Command {
	c := operator("docker-local NAME... | --all", "Bring volumes of Docker's own local driver to dvol", cobra.ArbitraryArgs, migrateLocal)
	c.Long = `Bring volumes of Docker's own local driver to dvol, under the same names.

The data is copied and compared, and the original stays as it is. Volumes in
use are refused: stop their containers first. What a crash or Ctrl-C cut short
is undone; repeat the command. docs/migrating.md tells what to do before and
after.

With --move the data is renamed into the pool, at once, where both lie on one
file system. dvold then treats it as adopted: it never deletes it.`
	c.Example = `  dvold migrate docker-local --all --dry-run
  dvold migrate docker-local pgdata
  dvold migrate docker-local --move --pool fast pgdata site`
	c.Flags().Bool("all", false, "all volumes that have a name and are not in dvol yet")
	c.Flags().Bool("dry-run", false, "only say what can be migrated now, and what can't")
	c.Flags().Bool("move", false, "move the data into the pool instead of copying it")
	c.Flags().String("pool", "", "`pool` to migrate to (default the default pool)")
	c.Flags().String("size", "", "`size` of each volume, such as 10G (default the pool's)")
	dockerRootFlag(c)
	completeFlag(c, "pool", lister(poolNames).from)
	c.ValidArgsFunction = completeLocal
	return c
}

func completeLocal(c *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	return localNames(c).from(c, given, typed)
}

func dockerRootFlag(c *cobra.Command) {
	c.Flags().String("docker-root", "/var/lib/docker", "Docker's data root `directory`")
}

func migrateLocal(c *cobra.Command, d *adminapi.Client, args []string) error {
	all, _ := c.Flags().GetBool("all")
	if all == (len(args) > 0) {
		return misuse(c, errors.New("give the names of volumes, or --all"))
	}
	root, _ := c.Flags().GetString("docker-root")
	if !filepath.IsAbs(root) {
		return misuse(c, fmt.Errorf("--docker-root %q is not an absolute path", root))
	}
	dry, _ := c.Flags().GetBool("dry-run")
	if all || dry { // not for names alone: to list them dvold looks into each
		found, err := d.Local(c.Context(), root)
		if err != nil {
			return err
		}
		if dry {
			return printLocal(c, found, args)
		}
		for _, l := range found {
			if !l.Anonymous && !l.Exists {
				args = append(args, l.Name)
			}
		}
	}
	migrated := []migrate.Result{}
	var errs []error
	for _, name := range args {
		r, err := migrateOne(c, d, name, root)
		if err != nil {
			errs = append(errs, err)
		} else {
			migrated = append(migrated, r)
		}
		if c.Context().Err() != nil {
			break
		}
	}
	err := print(c, migrated, func(row func(...any)) {
		for _, r := range migrated {
			if r.Moved {
				row(r.Name, "moved to pool "+r.Pool)
			} else {
				row(r.Name, fmt.Sprintf("copied to pool %s: %d files, %s", r.Pool, r.Files, size(r.Bytes)))
			}
		}
	})
	return errors.Join(append(errs, err)...)
}

func migrateOne(c *cobra.Command, d *adminapi.Client, name, root string) (migrate.Result, error) {
	pool, _ := c.Flags().GetString("pool")
	size, _ := c.Flags().GetString("size")
	move, _ := c.Flags().GetBool("move")
	return d.Migrate(c.Context(), name, adminapi.Migrate{DockerRoot: root, Pool: pool, Size: size, Move: move})
}

// printLocal tells about the volumes of the local driver, or about those named.
func printLocal(c *cobra.Command, found []migrate.Local, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(found, func(l migrate.Local) bool { return l.Name == name }) {
			return fmt.Errorf("there is no volume %q of Docker's local driver", name)
		}
	}
	if len(names) > 0 {
		found = slices.DeleteFunc(found, func(l migrate.Local) bool { return !slices.Contains(names, l.Name) })
	}
	return print(c, found, func(row func(...any)) {
		row("NAME", "NOW", "")
		for _, l := range found {
			row(l.Name, yesNo(l.Problem == ""), or(l.Problem, mark(l.Anonymous, "anonymous: not part of --all")))
		}
	})
}
