package nfs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends/nfs"
)

// valid is a configuration with what has no default, changed.
func valid(change func(*nfs.Config)) nfs.Config {
	c := nfs.DefaultConfig()
	c.Server, c.Export = "nas", "/srv/volumes"
	if change != nil {
		change(&c)
	}
	return c
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*nfs.Config){
		"defaults": nil,
		"address":  func(c *nfs.Config) { c.Server = "fd00::1" },
		"all of a server": func(c *nfs.Config) {
			c.Export, c.Subdir, c.Version = "/", "/a b/ü", "4.0"
		},
		"options": func(c *nfs.Config) {
			c.Options = []string{"softerr", "timeo=50", "retrans=2", "nconnect=4", "lookupcache=none", "actimeo=0"}
		},
		"version 3": func(c *nfs.Config) {
			c.Version, c.Options = "3", []string{"nolock", "mountport=20048", "mountproto=udp", "hard"}
		},
		"shares":   func(c *nfs.Config) { c.Shares = []string{"old:/srv/data", "old-*:/srv/*", "[fd00::1]:/x"} },
		"Kerberos": func(c *nfs.Config) { c.Sec = "krb5p" },
	} {
		if err := valid(change).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	options := func(options ...string) func(*nfs.Config) {
		return func(c *nfs.Config) { c.Options = options }
	}
	for name, test := range map[string]struct {
		change func(*nfs.Config)
		want   string
	}{
		"no server":            {func(c *nfs.Config) { c.Server = "" }, "server: "},
		"server with a path":   {func(c *nfs.Config) { c.Server = "nas:/x" }, "server: "},
		"server as an option":  {func(c *nfs.Config) { c.Server = "nas,soft" }, "server: "},
		"no export":            {func(c *nfs.Config) { c.Export = "" }, "export: "},
		"relative export":      {func(c *nfs.Config) { c.Export = "srv" }, "export: "},
		"export upwards":       {func(c *nfs.Config) { c.Export = "/srv/../etc" }, "export: "},
		"export of two lines":  {func(c *nfs.Config) { c.Export = "/srv\nx" }, "export: "},
		"subdir upwards":       {func(c *nfs.Config) { c.Subdir = "../x" }, "subdir: "},
		"subdir of two lines":  {func(c *nfs.Config) { c.Subdir = "a\nb" }, "subdir: "},
		"share, no path":       {func(c *nfs.Config) { c.Shares = []string{"nas"} }, "shares: "},
		"share, no pattern":    {func(c *nfs.Config) { c.Shares = []string{"nas:/[x"} }, "shares: "},
		"version 2":            {func(c *nfs.Config) { c.Version = "2" }, "version: "},
		"version 4":            {func(c *nfs.Config) { c.Version = "4" }, "version: "},
		"port 0":               {func(c *nfs.Config) { c.Port = 0 }, "port: "},
		"sec none":             {func(c *nfs.Config) { c.Sec = "none" }, "sec: "},
		"two secs":             {func(c *nfs.Config) { c.Sec = "sys,soft" }, "sec: "},
		"mount_timeout":        {func(c *nfs.Config) { c.MountTimeout = time.Hour }, "mount_timeout: "},
		"mount_grace":          {func(c *nfs.Config) { c.MountGrace = -1 }, "mount_grace: "},
		"unknown option":       {options("suid"), `options: "suid" is not one of: ac, acdirmax`},
		"sharecache":           {options("sharecache"), `options: "sharecache"`},
		"addr":                 {options("addr=10.0.0.1"), `options: "addr"`},
		"two in one":           {options("rsize=4096,soft"), `options: rsize: "4096,soft"`},
		"line in a value":      {options("rsize=4096\n"), `options: rsize: `},
		"line in a name":       {options("soft\n"), `options: "soft\n"`},
		"equals in a value":    {options("lookupcache=all=none"), `options: lookupcache: "all=none"`},
		"value too many":       {options("soft=1"), "options: soft takes no value"},
		"no value":             {options("timeo"), "options: timeo: "},
		"value out of range":   {options("nconnect=17"), "options: nconnect: "},
		"odd number":           {options("timeo=+5"), "options: timeo: "},
		"twice":                {options("timeo=5", "timeo=6"), "options: timeo is there twice"},
		"contradiction":        {options("hard", "soft"), "options: hard and soft contradict each other"},
		"nolock in version 4":  {options("nolock"), "options: nolock is of version 3 alone"},
		"empty":                {options(""), `options: "" is not one of`},
		"mountproto of no use": {func(c *nfs.Config) { c.Version, c.Options = "3", []string{"mountproto=rdma"} }, "options: mountproto: "},
	} {
		err := valid(test.change).Validate()
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s…", name, err, test.want)
		}
	}
}

func TestLocation(t *testing.T) {
	for want, change := range map[string]func(*nfs.Config){
		"nas:/srv/volumes":       nil,
		"nas:/srv/volumes/a":     func(c *nfs.Config) { c.Subdir = "a" },
		"[fd00::1]:/srv/volumes": func(c *nfs.Config) { c.Server = "fd00::1" },
		"nas:/":                  func(c *nfs.Config) { c.Export = "/" },
	} {
		if got := valid(change).Location(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
