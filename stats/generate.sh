#!/bin/sh
# Makes stats.pb.go from stats.proto. Needs protoc and its standard .proto files
# (on Debian protobuf-compiler and libprotobuf-dev); the plugin comes from the
# protobuf module at the version in go.mod.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
metrics=github.com/containerd/cgroups/cgroup1/stats
cgroups=$(go list -m -f '{{.Dir}}' github.com/containerd/cgroups/v3)
go build -o "$t" google.golang.org/protobuf/cmd/protoc-gen-go
protoc --plugin="$t/protoc-gen-go" \
	--proto_path=. --proto_path="$metrics=$cgroups/cgroup1/stats" \
	--go_out="$t" --go_opt=paths=source_relative \
	--go_opt="M$metrics/metrics.proto=github.com/containerd/cgroups/v3/cgroup1/stats" \
	stats.proto
# The known Go names have NS, and VM. The runtime finds a field by the number
# in its tag, so its Go name is free.
sed -E \
	-e 's/\b((Get)?(TotalRuntime|RuntimeUser|RuntimeKernel|Uptime))Ns\b/\1NS/g' \
	-e 's/\b((Get)?V)m( |\(|$)/\1M\3/' \
	-e 's/\bx\.Vm\b/x.VM/g' \
	"$t/stats.pb.go" >stats.pb.go
gofmt -w stats.pb.go
