package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func volumeCommand() *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "List, inspect, create and remove volumes", Args: cobra.NoArgs}
	c.AddCommand(
		operator("ls", "List volumes", cobra.NoArgs, volumeList),
		operator("inspect NAME", "Show all there is to know about a volume", cobra.ExactArgs(1), volumeInspect),
		volumeCreateCommand(),
		operator("rm NAME", "Remove a volume; its data goes to the trash", cobra.ExactArgs(1), volumeRemove),
	)
	return c
}

func volumeList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Volumes(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("NAME", "POOL", "ACCESS", "USES", "CREATED")
		for _, v := range all {
			row(v.Name, v.Pool, v.Access, len(v.Uses), localTime(v.CreatedAt))
		}
	})
}

func volumeInspect(c *cobra.Command, d *adminapi.Client, args []string) error {
	v, err := d.Inspect(c.Context(), args[0])
	if err != nil {
		return err
	}
	return print(c, v, func(row func(...any)) {
		row("Name:", v.Name)
		row("ID:", v.ID)
		row("Pool:", fmt.Sprintf("%s (%s)", v.Pool, or(v.Type, "not configured on this host")))
		row("Data:", or(v.Location, "unknown: "+v.Problem))
		row("Access:", v.Access)
		row("Options:", or(options(v.Options), "none"))
		row("Created:", localTime(v.CreatedAt)+" on host "+v.CreatedBy)
		row("When removed:", fate(v.Volume))
		row("Mountpoint:", v.Mountpoint+mark(!v.Mounted, " (not mounted)"))
		for _, u := range v.Uses {
			row("Use:", fmt.Sprintf("mount ID %.12s, %d times, since %s, by engine process %d", u.MountID, u.Count, localTime(u.Since), u.Engine.PID))
		}
		for _, u := range v.Users {
			row("Process:", fmt.Sprintf("%d (%s) at %s", u.PID, u.Command, u.Target))
		}
	})
}

// fate is what becomes of a volume's data.
func fate(v volumes.Volume) string {
	switch {
	case v.Adopted:
		return "the data stays where it is"
	case v.Retain:
		return "the data stays in the trash until an operator purges it"
	}
	return "the data goes to the trash for the pool's trash_ttl"
}

func volumeCreateCommand() *cobra.Command {
	c := operator("create NAME", "Create a volume", cobra.ExactArgs(1), func(c *cobra.Command, d *adminapi.Client, args []string) error {
		given, err := c.Flags().GetStringArray("opt")
		if err != nil {
			return err
		}
		options, err := parseOptions(given)
		if err != nil {
			return err
		}
		v, err := d.Create(c.Context(), args[0], options)
		if err != nil {
			return err
		}
		return print(c, v, func(row func(...any)) { row(v.Name) })
	})
	c.Flags().StringArrayP("opt", "o", nil, "`option` of the volume, such as pool=fast; may be repeated")
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
