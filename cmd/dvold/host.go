package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
)

func hostCommand() *cobra.Command {
	ls := operator("ls", "List the hosts of the cluster", cobra.NoArgs, hostList)
	ls.Long = `List the hosts of the cluster: all that ever ran dvold in it and were not
forgotten. One that is not live has stopped reporting; it may still write to its
volumes.`
	forget := operator("forget HOST", "Remove all traces of a host that is gone for good", cobra.ExactArgs(1), hostForget)
	forget.Long = `Remove all traces of a host that is gone for good, so that the volumes it held
can be removed. Only you can know that it is: a host that is silent may still
write. Its containers must be stopped, and stay so. Refused while the host is
live; but what a machine holds that had its name before is forgotten.`
	drain := operator("drain HOST", "Have a host mount no more volumes", cobra.ExactArgs(1), hostDrain(true))
	drain.Long = `Have a host mount no volume that it has not mounted. What is mounted stays until
its containers stop. Undo with dvold host undrain.`
	undrain := operator("undrain HOST", "Have a host mount volumes again", cobra.ExactArgs(1), hostDrain(false))
	return group("host", "List, drain and forget hosts",
		ls, completeOne(drain, hostNames), completeOne(undrain, hostNames), completeOne(forget, hostNames))
}

func hostList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Hosts(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("NAME", "LIVE", "SINCE", "INCARNATION", "HOLDS", "")
		for _, h := range all {
			marks := strings.TrimSpace(mark(h.ThisHost, "this host ") + mark(h.Draining, "draining"))
			row(h.Name, yesNo(h.Live), localTime(h.Since), h.Incarnation, h.Holds, marks)
		}
	})
}

func hostForget(c *cobra.Command, d *adminapi.Client, args []string) error {
	if err := d.ForgetHost(c.Context(), args[0]); err != nil {
		return err
	}
	return print(c, hostName{args[0]}, func(row func(...any)) { row(args[0]) })
}

func hostDrain(drain bool) func(*cobra.Command, *adminapi.Client, []string) error {
	return func(c *cobra.Command, d *adminapi.Client, args []string) error {
		if err := d.DrainHost(c.Context(), args[0], drain); err != nil {
			return err
		}
		return print(c, hostName{args[0]}, func(row func(...any)) { row(args[0]) })
	}
}

// hostName is the answer of commands that change a host.
type hostName struct {
	Name string `json:"name"`
}

func hostNames(ctx context.Context, d *adminapi.Client) (names []string, err error) {
	all, err := d.Hosts(ctx)
	for _, h := range all {
		names = append(names, h.Name)
	}
	return names, err
}
