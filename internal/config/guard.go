package config

import (
	"fmt"
	"time"
)

// Guard says how this host cuts itself off from exclusive volumes.
type Guard struct {
	CutTime       Duration `yaml:"cut_time"`       // 1 s to 60 s
	RebootCommand string   `yaml:"reboot_command"` // absolute path, or none: the kernel's own reboot
	Watchdog      string   `yaml:"watchdog"`       // absolute path of a device, or none
}

// guardSettings are those of the section guard.
func guardSettings() []setting {
	return []setting{
		{"guard.cut_time", "5s", "`time` for a cut-off to be verified, or the host reboots", func(c *Config, v string) (err error) {
			c.Guard.CutTime, err = cutTime(v)
			return err
		}},
		{"guard.reboot_command", "", "`command` that reboots the host (default the kernel's own reboot)", func(c *Config, v string) (err error) {
			c.Guard.RebootCommand, err = optionalFile(v)
			return err
		}},
		{"guard.watchdog", "", "`device` of a watchdog that reboots a host whose guard doesn't run", func(c *Config, v string) (err error) {
			c.Guard.Watchdog, err = optionalFile(v)
			return err
		}},
	}
}

// cutTime returns a time in which a host can cut itself off, and for which
// others can wait.
func cutTime(v string) (d Duration, err error) {
	const shortest, longest = time.Second, time.Minute
	if err := d.UnmarshalText([]byte(v)); err != nil {
		return d, err
	}
	if d.Duration < shortest || d.Duration > longest {
		return d, fmt.Errorf("%q is not between 1s and 60s", v)
	}
	return d, nil
}
