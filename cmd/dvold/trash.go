package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func trashCommand() *cobra.Command {
	c := &cobra.Command{Use: "trash", Short: "List, restore and purge removed volumes", Args: cobra.NoArgs}
	c.AddCommand(
		operator("ls", "List removed volumes whose data is still there", cobra.NoArgs, trashList),
		trashRestoreCommand(),
		trashPurgeCommand(),
	)
	return c
}

func trashList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Trash(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("ID", "POOL", "REMOVED", "BY HOST", "PURGED AT")
		for _, t := range all {
			row(t.ID, t.Pool, localTime(t.RemovedAt), t.RemovedBy, purgeTime(t))
		}
	})
}

func purgeTime(t volumes.Trashed) string {
	switch {
	case t.Purging:
		return "now"
	case t.PurgeAt == nil:
		return "never"
	}
	return localTime(*t.PurgeAt)
}

func trashRestoreCommand() *cobra.Command {
	c := operator("restore NAME|ID", "Bring a removed volume back; of a name, the last removed", cobra.ExactArgs(1),
		func(c *cobra.Command, d *adminapi.Client, args []string) error {
			as, err := c.Flags().GetString("as")
			if err != nil {
				return err
			}
			v, err := d.Restore(c.Context(), args[0], as)
			if err != nil {
				return err
			}
			return print(c, v, func(row func(...any)) { row(v.Name) })
		})
	c.Flags().String("as", "", "another name for the volume")
	return c
}

func trashPurgeCommand() *cobra.Command {
	c := operator("purge NAME|ID | --all", "Delete the data of removed volumes for good", cobra.MaximumNArgs(1), trashPurge)
	c.Flags().Bool("all", false, "purge all removed volumes")
	return c
}

func trashPurge(c *cobra.Command, d *adminapi.Client, args []string) error {
	all, err := c.Flags().GetBool("all")
	if err != nil {
		return err
	}
	if all == (len(args) == 1) {
		return errors.New("give the name or ID of a removed volume, or --all")
	}
	if all {
		trashed, err := d.Trash(c.Context())
		if err != nil {
			return err
		}
		for _, t := range trashed {
			args = append(args, t.ID)
		}
	}
	purged := []volumes.Trashed{}
	var errs []error
	for _, which := range args {
		t, err := d.Purge(c.Context(), which)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		purged = append(purged, t)
	}
	err = print(c, purged, func(row func(...any)) {
		for _, t := range purged {
			row(t.ID)
		}
	})
	return errors.Join(append(errs, err)...)
}
