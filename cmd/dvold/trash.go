package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func trashCommand() *cobra.Command {
	return group("trash", "List, restore and purge removed volumes",
		operator("ls", "List removed volumes whose data is still there", cobra.NoArgs, trashList),
		trashRestoreCommand(),
		trashPurgeCommand(),
	)
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
	c := operator("restore NAME|ID", "Bring a removed volume back", cobra.ExactArgs(1),
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
	c.Long = `Bring a removed volume back, data and all; of a name, the last removed.`
	c.Example = `  dvold trash restore pgdata
  dvold trash restore pgdata.0123456789ab --as pgdata-old`
	c.Flags().String("as", "", "another `name` for the volume")
	completeFlag(c, "as", cobra.NoFileCompletions)
	return completeOne(c, trashNames)
}

func trashPurgeCommand() *cobra.Command {
	c := operator("purge NAME|ID | --all", "Delete the data of removed volumes for good", cobra.MaximumNArgs(1), trashPurge)
	c.Long = `Delete the data of removed volumes for good, now. It can't be undone. A name
that was removed more than once has to be given by ID.`
	c.Example = `  dvold trash purge pgdata.0123456789ab
  dvold trash purge --all`
	c.Flags().Bool("all", false, "purge all removed volumes")
	return completeOne(c, trashNames)
}

func trashPurge(c *cobra.Command, d *adminapi.Client, args []string) error {
	all, err := c.Flags().GetBool("all")
	if err != nil {
		return err
	}
	if all == (len(args) == 1) {
		return misuse(c, errors.New("give the name or ID of a removed volume, or --all"))
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
