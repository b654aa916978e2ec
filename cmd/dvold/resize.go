package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/adminapi"
)

func volumeResizeCommand() *cobra.Command {
	c := operator("resize NAME SIZE", "Change how much a volume may hold", cobra.ExactArgs(2), volumeResize)
	c.Long = `Change how much a volume may hold, while it is in use or not. SIZE is as the
option size of a new volume, such as 20G; 0 takes the limit away. Refused for
less than it holds already, and where its pool can't do it.`
	c.Example = `  dvold volume resize pgdata 50G
  dvold volume resize scratch 0`
	return c
}

func volumeResize(c *cobra.Command, d *adminapi.Client, args []string) error {
	to, err := parseNewSize(args[1])
	if err != nil {
		return misuse(c, err)
	}
	v, err := d.Resize(c.Context(), args[0], to)
	if err != nil {
		return err
	}
	return print(c, v, func(row func(...any)) { row(v.Name, sizeOr(v.Size, v.Size > 0, "no limit")) })
}

// parseNewSize reads a size, or 0 for none.
func parseNewSize(text string) (int64, error) {
	if text == "0" {
		return 0, nil
	}
	n, err := backends.ParseSize(text)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w; or 0 for no limit", text, err)
	}
	return n, nil
}
