// Command drill tries on hosts with dvold what becomes of a container that is moved, or whose host dies: it has one
// write to a volume, does that to it, starts it on another host, and reports what was lost and how long it took.
//
//	hack/drill --host h1=ssh://root@h1 --host h2=ssh://root@h2 --how stop
//
// docs/drill.md says more. It exits with 0 if all went well, 1 if something was lost, doubled or torn, two hosts
// wrote at once, or the volume did not move, and 2 if it could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dvol/dvold/test/drill/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	sound, err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "drill: could not run:", err)
		os.Exit(2)
	case !sound:
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (sound bool, err error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	d, err := newDrill(o).run(ctx)
	if err != nil {
		return false, err
	}
	fmt.Print(report.Text(d))
	if o.svg != "" {
		if err := os.WriteFile(o.svg, []byte(report.SVG(d)), 0o644); err != nil {
			return false, err
		}
	}
	return report.Analyse(d).Sound(d), nil
}
