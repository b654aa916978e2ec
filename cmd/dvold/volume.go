package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func volumeCommand() *cobra.Command {
	inspect := operator("inspect NAME", "Show all there is to know about a volume", cobra.ExactArgs(1), volumeInspect)
	inspect.Long = `Show all there is to know about a volume: where its data lies, who has it
mounted, and what becomes of its data when it is removed. Of an exclusive one
also who owns it, on what terms, and what a takeover would do and hit.`
	rm := operator("rm NAME", "Remove a volume; its data goes to the trash", cobra.ExactArgs(1), volumeRemove)
	rm.Long = `Remove a volume; its data goes to the trash. Refused while it is in use.
Adopted data stays where it is.`
	return group("volume", "List, inspect, create, change, release and remove volumes",
		volumeListCommand(),
		completeOne(inspect, volumeNames),
		volumeCreateCommand(),
		completeOne(volumeSetCommand(), volumeNames),
		completeOne(volumeResizeCommand(), volumeNames),
		completeOne(rm, volumeNames),
		completeOne(volumeReleaseCommand(), volumeNames),
	)
}

func volumeListCommand() *cobra.Command {
	c := operator("ls", "List volumes", cobra.NoArgs, volumeList)
	c.Long = `List volumes. Warns of those whose name Docker's own local driver uses on this
host, too: "docker run -v NAME:/x" without --volume-driver dvol takes that one.`
	dockerRootFlag(c)
	return c
}

func volumeList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Volumes(c.Context())
	if err != nil {
		return err
	}
	defer warnOfDoubles(c, all)
	return print(c, all, func(row func(...any)) {
		row("NAME", "POOL", "ACCESS", "USES", "CREATED")
		for _, v := range all {
			row(v.Name, v.Pool, v.Access, len(v.Uses), localTime(v.CreatedAt))
		}
	})
}

// warnOfDoubles names the volumes that Docker's local driver has, too, as far
// as it can be seen.
func warnOfDoubles(c *cobra.Command, all []volumes.Volume) {
	root, _ := c.Flags().GetString("docker-root")
	for _, v := range all {
		if info, err := os.Stat(filepath.Join(root, "volumes", v.Name)); err == nil && info.IsDir() {
			fmt.Fprintf(c.ErrOrStderr(), "dvold: warning: Docker's local driver has a volume %q, too: containers that don't name the driver dvol use that one\n", v.Name)
		}
	}
}

func volumeInspect(c *cobra.Command, d *adminapi.Client, args []string) error {
	v, err := d.Inspect(c.Context(), args[0])
	if err != nil {
		return err
	}
	return print(c, v, func(row func(...any)) {
		row("Name:", v.Name)
		row("ID:", v.ID)
		row("Pool:", fmt.Sprintf("%s (%s)", v.Pool, or(v.Type, "not on this host")))
		if v.Home != "" {
			row("Home:", "host "+v.Home+" alone")
		}
		row("Data:", or(v.Location, "unknown"))
		row("Size:", sizeOr(v.Size, v.Size > 0, "no limit"))
		row("Used:", sizeOr(v.Used, v.Used >= 0, "unknown"))
		row("Access:", v.Access)
		row("Options:", or(options(v.Options), "none"))
		row("Created:", localTime(v.CreatedAt)+" on host "+v.CreatedBy)
		row("When removed:", fate(v.WhenRemoved))
		row("Mountpoint:", v.Mountpoint)
		row("Mounted:", yesNo(v.Mounted))
		for _, h := range v.Holders {
			row("Holder:", fmt.Sprintf("host %s%s%s, since %s", h.Host, mark(h.ThisHost, " (this host)"), mark(!h.Live, " (silent)"), localTime(h.Since)))
		}
		if v.Owner != nil {
			ownerRows(row, *v.Owner)
		}
		for _, u := range v.Uses {
			row("Use:", fmt.Sprintf("mount ID %.12s, %s, since %s, engine process %d", u.MountID, times(u.Count), localTime(u.Since), u.Engine.PID))
		}
		for _, u := range v.Users {
			row("Process:", fmt.Sprintf("%d (%s) at %s", u.PID, u.Command, u.Target))
		}
		if v.AsOf != nil {
			row("As of:", localTime(*v.AsOf)+", as the coordinator is away")
		}
		if v.Problem != "" {
			row("Problem:", v.Problem)
		}
	})
}

func sizeOr(n int64, known bool, otherwise string) string {
	if known {
		return size(n)
	}
	return otherwise
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// fate is what becomes of a volume's data.
func fate(w adminapi.WhenRemoved) string {
	switch {
	case w.Data == "released":
		return "the data stays where it is"
	case w.Data == "retained":
		return "the data stays in the trash until an operator purges it"
	case w.TrashTTL == "":
		return "the data goes to the trash"
	}
	return "the data goes to the trash for " + w.TrashTTL
}

func volumeCreateCommand() *cobra.Command {
	c := operator("create NAME", "Create a volume", cobra.ExactArgs(1), func(c *cobra.Command, d *adminapi.Client, args []string) error {
		given, err := c.Flags().GetStringArray("opt")
		if err != nil {
			return err
		}
		options, err := parseOptions(given)
		if err != nil {
			return misuse(c, err)
		}
		v, err := d.Create(c.Context(), args[0], options)
		if err != nil {
			return err
		}
		return print(c, v, func(row func(...any)) { row(v.Name) })
	})
	c.Long = `Create a volume, as docker volume create -d dvol does.`
	c.Example = `  dvold volume create pgdata -o pool=fast -o uid=999 -o mode=0700
  dvold volume create site -o adopt=www/site`
	c.Flags().StringArrayP("opt", "o", nil, "`option` of the volume, such as pool=fast; may be repeated")
	completeFlag(c, "opt", lister(volumeOptions).from)
	return c
}

func volumeSetCommand() *cobra.Command {
	c := operator("set NAME --access ACCESS", "Change who may have a volume mounted", cobra.ExactArgs(1), func(c *cobra.Command, d *adminapi.Client, args []string) error {
		access, err := c.Flags().GetString("access")
		if err != nil {
			return err
		}
		if access == "" {
			return misuse(c, errors.New("--access is not given"))
		}
		v, err := d.SetAccess(c.Context(), args[0], volumes.Access(access))
		if err != nil {
			return err
		}
		return print(c, v, func(row func(...any)) { row(v.Name) })
	})
	c.Long = `Change who may have a volume mounted: shared, many hosts read and write;
exclusive, one host at a time; or readonly, many hosts read and nobody writes.
Refused while a host has it mounted.`
	c.Example = `  dvold volume set site --access readonly`
	c.Flags().String("access", "", "who may have it mounted: `access` shared, exclusive or readonly")
	completeFlag(c, "access", cobra.FixedCompletions([]string{"shared", "exclusive", "readonly"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func parseOptions(given []string) (map[string]string, error) {
	options := make(map[string]string)
	for _, o := range given {
		name, value, ok := strings.Cut(o, "=")
		if _, twice := options[name]; !ok || name == "" || twice {
			return nil, fmt.Errorf("option %q: give each as name=value, and once", o)
		}
		options[name] = value
	}
	return options, nil
}

func volumeRemove(c *cobra.Command, d *adminapi.Client, args []string) error {
	v, err := d.Remove(c.Context(), args[0])
	if err != nil {
		return err
	}
	return print(c, v, func(row func(...any)) {
		row(v.Name)
		if !v.Adopted {
			row("Undo with: dvold trash restore " + v.ID)
		}
	})
}

func options(o map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		pairs = append(pairs, name+"="+o[name])
	}
	return strings.Join(pairs, " ")
}
