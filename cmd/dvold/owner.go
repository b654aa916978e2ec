package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func volumeReleaseCommand() *cobra.Command {
	c := operator("release NAME --from HOST", "Take an exclusive volume from a silent host, on your word", cobra.ExactArgs(1), func(c *cobra.Command, d *adminapi.Client, args []string) error {
		from, err := c.Flags().GetString("from")
		if err != nil {
			return err
		}
		if from == "" {
			return misuse(c, errors.New("--from is not given"))
		}
		v, err := d.Release(c.Context(), args[0], from)
		if err != nil {
			return err
		}
		return print(c, v, func(row func(...any)) { row(v.Name) })
	})
	c.Long = `Take an exclusive volume from a host that is silent, so that another can mount
it. Only you can know that it is safe: that host must be off, or its containers
that use the volume must have been stopped. Otherwise two hosts may write at
once, which destroys the data. Refused while the host is live.`
	c.Example = `  dvold volume release pgdata --from node1`
	c.Flags().String("from", "", "the `host` that owns it, and can write to it no more")
	completeFlag(c, "from", lister(hostNames).from)
	return c
}

// ownerRows shows who owns an exclusive volume, and on what terms.
func ownerRows(row func(...any), o volumes.Owner) {
	owner := fmt.Sprintf("%s, epoch %d", o.State, o.Epoch)
	if o.Host != "" {
		owner = fmt.Sprintf("host %s%s%s%s, epoch %d, since %s", o.Host, mark(o.ThisHost, " (this host)"), mark(!o.Live, " (silent)"), mark(o.Suspect, " (seems down)"), o.Epoch, localTime(o.Since))
	}
	row("Owner:", owner)
	if o.State == "releasing" {
		row("Releasing:", or(o.Problem, "not proven gone yet"))
	}
	if o.TakenBy != "" {
		row("Taken by:", "host "+o.TakenBy)
	}
	if o.Host != "" {
		guarded := mark(o.Guarded, ", guarded") + mark(!o.Guarded && o.OnSessionLoss == "cut", ", not guarded")
		row("Lease:", fmt.Sprintf("%s, then %s%s%s", o.LeaseTTL, o.OnSessionLoss, guarded, mark(o.LeaseEnds != "", ", ends in "+o.LeaseEnds)))
		row("Fence:", or(o.Fence, "none")+mark(o.Domain != "", ", covers "+o.Domain))
	}
	if o.Proof != "" {
		row("Proof:", o.Proof)
	}
	if o.Lost != "" {
		row("Lost:", o.Lost)
	}
	row("Takeover:", or(o.Takeover, "not by this host")+mark(o.Would != "", ": a mount here would "+o.Would))
}
