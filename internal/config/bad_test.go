package config_test

import (
	"strings"
	"testing"
)

const (
	validKeys = " (valid: admin_socket, coordination.addresses, coordination.ca_file, coordination.cert_file, coordination.key_file, coordination.lease_ttl, coordination.prefix, coordination.server_name, coordination.token_file, coordination.type, default_pool, docker_socket, guard.cut_time, guard.reboot_command, guard.watchdog, host, log.format, log.level, pools, run_dir, state_dir, trash_ttl)"
	validTime = " is not a time: want numbers with units, such as 30m, 24h, 7d or 1d12h, up to 36500d"
)

func TestBadFiles(t *testing.T) {
	messages := map[string]string{
		"alias":                       `FILE:2: anchors and aliases are not supported`,
		"config_key":                  `FILE:1: unknown key config` + validKeys,
		"coordination_type":           `FILE:2: coordination.type: "zookeeper" is not one of: embedded, consul`,
		"consul_addresses":            `FILE:4: coordination.addresses: "node2": want host:port, http://host:port, https://host:port or unix:///path`,
		"consul_addresses_item":       `FILE:5: coordination.addresses[1]: want a text without commas, not a mapping`,
		"consul_addresses_none":       `FILE:3: coordination.addresses: "": want host:port, http://host:port, https://host:port or unix:///path`,
		"consul_addresses_twice":      `FILE:3: coordination.addresses: "node1:8500" is there twice`,
		"consul_cert_without_key":     `FILE:4: coordination.cert_file: it needs its key: set coordination.key_file, too`,
		"consul_embedded":             `FILE:3: coordination.addresses: it is of Consul, and coordination.type is embedded: set that to consul, or leave this out`,
		"consul_key_without_cert":     `FILE:4: coordination.key_file: it needs its certificate: set coordination.cert_file, too`,
		"consul_lease_long":           `FILE:3: coordination.lease_ttl: "1d1s" is not between 10s and 24h, as Consul wants it`,
		"consul_lease_short":          `FILE:3: coordination.lease_ttl: "9s" is not between 10s and 24h, as Consul wants it`,
		"consul_lease_unit":           `FILE:3: coordination.lease_ttl: "20"` + validTime,
		"consul_plain":                `FILE:4: coordination.ca_file: nothing would be encrypted, for no address in coordination.addresses begins with https://`,
		"consul_prefix":               `FILE:3: coordination.prefix: "/dvol" is not a prefix of keys: want words of letters, digits, dots, dashes and underscores, with slashes between, and up to 128 bytes`,
		"consul_prefix_list":          `FILE:3: coordination.prefix: want a single value, not a list`,
		"consul_server_name":          `FILE:4: coordination.server_name: "a b" is not a name that a certificate can have`,
		"consul_token_file":           `FILE:3: coordination.token_file: "token" is not an absolute path below /`,
		"consul_without_type":         `FILE:1: coordination.token_file: it is of Consul, and coordination.type is embedded: set that to consul, or leave this out`,
		"default_pool_missing":        `default_pool is not set, and there are several pools: set it to one of a, b`,
		"default_pool_unknown":        `FILE:1: default_pool: there is no pool "A" (there are: a)`,
		"default_pool_without_pools":  `FILE:1: default_pool: there is no pool "gv0" (there are: local)`,
		"dotted_key":                  `FILE:1: unknown key log.level` + validKeys,
		"duplicate_key":               `FILE:3: host was set in line 1 already`,
		"duplicate_pool":              `FILE:3: a was set in line 2 already`,
		"duplicate_pool_key":          `FILE:5: path was set in line 4 already`,
		"encoding":                    `FILE: invalid leading UTF-8 octet`,
		"exclusive_accept":            `FILE:6: pools.nas.exclusive.accept_lease: it is about takeover: auto, and takeover is manual: leave this out`,
		"exclusive_accept_text":       `FILE:5: pools.nas.exclusive.accept_lease: want true or false, not "yes"`,
		"exclusive_command_empty":     `FILE:5: pools.nas.exclusive.fence_command: want a program and its arguments`,
		"exclusive_command_null":      `FILE:5: pools.nas.exclusive.fence_command[2]: it has no value: give it one, or leave it out`,
		"exclusive_command_relative":  `FILE:5: pools.nas.exclusive.fence_command: "fence" is not an absolute path below /`,
		"exclusive_command_text":      `FILE:5: pools.nas.exclusive.fence_command: want a list, not "/sbin/fence"`,
		"exclusive_covers":            `FILE:6: pools.nas.exclusive.fence_covers: "rack" is not one of: volume, pool, host`,
		"exclusive_covers_alone":      `FILE:6: pools.nas.exclusive.fence_covers: it is of a fence_command, and there is none: set that, too, or leave this out`,
		"exclusive_facts_alone":       `FILE:5: pools.nas.exclusive.fence_facts: it is of a fence_command, and there is none: set that, too, or leave this out`,
		"exclusive_facts_list":        `FILE:6: pools.nas.exclusive.fence_facts: want settings, not a list`,
		"exclusive_facts_nested":      `FILE:7: pools.nas.exclusive.fence_facts.ipmi: want a text, not a mapping`,
		"exclusive_mount_wait":        `FILE:5: pools.nas.exclusive.mount_wait: "91s" is not between 0s and 90s`,
		"exclusive_mount_wait_unit":   `FILE:5: pools.nas.exclusive.mount_wait: "30"` + validTime,
		"exclusive_servers_all":       `FILE:5: pools.nas.exclusive.servers[0]: "0.0.0.0/0" is every address there is`,
		"exclusive_servers_host_bits": `FILE:6: pools.nas.exclusive.servers[0]: "10.0.0.5/24" is not a network: want 10.0.0.0/24, or the one address 10.0.0.5`,
		"exclusive_servers_loopback":  `FILE:5: pools.nas.exclusive.servers[0]: "::1" is this host itself`,
		"exclusive_servers_name":      `FILE:5: pools.nas.exclusive.servers[1]: "nas1" is not an address or a network, such as 10.0.0.1, 10.0.0.0/24 or fd00::/64`,
		"exclusive_servers_null":      `FILE:7: pools.nas.exclusive.servers[1]: it has no value: give it one, or leave it out`,
		"exclusive_servers_text":      `FILE:5: pools.nas.exclusive.servers: want a list, not "10.0.0.1"`,
		"exclusive_session_loss":      `FILE:5: pools.nas.exclusive.on_session_loss: "" is not one of: keep, cut`,
		"exclusive_takeover":          `FILE:5: pools.nas.exclusive.takeover: "Auto" is not one of: auto, manual, never`,
		"exclusive_text":              `FILE:4: pools.nas.exclusive: want settings, not "auto"`,
		"exclusive_timeout_alone":     `FILE:5: pools.nas.exclusive.fence_timeout: it is of a fence_command, and there is none: set that, too, or leave this out`,
		"exclusive_timeout_long":      `FILE:6: pools.nas.exclusive.fence_timeout: "81s" is not between 1s and 80s`,
		"exclusive_timeout_short":     `FILE:6: pools.nas.exclusive.fence_timeout: "999ms" is not between 1s and 80s`,
		"exclusive_unknown":           `FILE:5: unknown key pools.nas.exclusive.takover (valid: accept_lease, fence_command, fence_covers, fence_facts, fence_timeout, mount_wait, on_session_loss, servers, takeover)`,
		"guard_command":               `FILE:2: guard.reboot_command: "reboot -f" is not an absolute path below /`,
		"guard_cut_time_long":         `FILE:2: guard.cut_time: "61s" is not between 1s and 60s`,
		"guard_cut_time_short":        `FILE:2: guard.cut_time: "999ms" is not between 1s and 60s`,
		"guard_cut_time_unit":         `FILE:2: guard.cut_time: "5"` + validTime,
		"guard_watchdog":              `FILE:2: guard.watchdog: "watchdog" is not an absolute path below /`,
		"host_chars":                  `FILE:1: host: "node 1/a" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"host_empty":                  `FILE:1: host: "" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"host_list":                   `FILE:1: host: want a single value, not a list`,
		"list":                        `FILE:1: want settings, such as "host: node1", not a list`,
		"list_as_key":                 `FILE:1: want a plain word as key`,
		"log_format":                  `FILE:1: log.format: "xml" is not one of: text, json`,
		"log_level":                   `FILE:2: log.level: "loud" is not one of: debug, info, warn, error`,
		"log_text":                    `FILE:1: log: want settings, not "debug"`,
		"long_socket":                 "FILE:1: admin_socket: /" + strings.Repeat("a", 107) + " is too long for a socket, which may have 107 bytes",
		"merge":                       `FILE:2: want a plain word as key`,
		"other_case_key":              `FILE:1: unknown key Host` + validKeys,
		"pool_empty":                  `FILE:2: pools.gv0: type is not set`,
		"pool_name":                   `FILE:2: pool name "gv.0": want up to 63 letters, digits, dashes and underscores`,
		"pool_no_type":                `FILE:2: pools.gv0: type is not set`,
		"pool_text":                   `FILE:2: pools.gv0: want settings, not "local"`,
		"pool_trash_ttl":              `FILE:4: pools.gv0.trash_ttl: "soon"` + validTime,
		"pool_trash_ttl_list":         `FILE:2: pools.gv0.trash_ttl: want a text, not a list`,
		"pool_type_list":              `FILE:3: pools.gv0.type: want a text, not a list`,
		"pools_list":                  `FILE:1: pools: want names and settings of pools, not a list`,
		"relative_path":               `FILE:1: state_dir: "var/lib/dvol" is not an absolute path below /`,
		"root_path":                   `FILE:1: state_dir: "/.." is not an absolute path below /`,
		"same_socket":                 `admin_socket and docker_socket are both /run/dvol.sock`,
		"syntax":                      `FILE:1: did not find expected ',' or '}'`,
		"tab":                         `FILE:2: found a tab character that violates indentation`,
		"text":                        `FILE:1: want settings, such as "host: node1", not "host=node1"`,
		"trash_ttl_negative":          `FILE:1: trash_ttl: "-1h"` + validTime,
		"trash_ttl_unit":              `FILE:1: trash_ttl: "24"` + validTime,
		"two_documents":               `FILE:2: a second document begins: want one`,
		"unknown_key":                 `FILE:2: unknown key hots` + validKeys,
		"unknown_nested_key":          `FILE:3: unknown key log.colour` + validKeys,
	}
	eachFile(t, "bad", func(t *testing.T, name, path string) {
		want, ok := messages[name]
		if !ok {
			t.Fatal("no message is expected of this file")
		}
		_, err := load(t, "--config", path)
		wantMessage(t, err, strings.ReplaceAll(want, "FILE", path))
		delete(messages, name)
	})
	for name := range messages {
		t.Errorf("%s.bad.yaml is missing", name)
	}
}
