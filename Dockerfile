# docker build -t balance_exporter \
#   --build-arg VERSION=$(git describe --tags --always) \
#   --build-arg REVISION=$(git rev-parse HEAD) \
#   --build-arg BRANCH=$(git rev-parse --abbrev-ref HEAD) \
#   --build-arg BUILD_USER=$(id -un) \
#   --build-arg BUILD_DATE=$(date -u +%Y%m%d-%H:%M:%S) .

# The builder runs on the build platform and cross-compiles for the target platform.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
WORKDIR /src

# Modules first, because they change less often than the source.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=unknown REVISION=unknown BRANCH=unknown BUILD_USER=docker BUILD_DATE=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /out/balance_exporter -ldflags "\
    -s -w \
    -X github.com/prometheus/common/version.Version=$VERSION \
    -X github.com/prometheus/common/version.Revision=$REVISION \
    -X github.com/prometheus/common/version.Branch=$BRANCH \
    -X github.com/prometheus/common/version.BuildUser=$BUILD_USER \
    -X github.com/prometheus/common/version.BuildDate=$BUILD_DATE" . \
 && mkdir /out/state

FROM scratch
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /out/balance_exporter /balance_exporter
# The volume gets its owner from this directory.
COPY --from=builder --chown=65532:65532 /out/state /var/lib/balance_exporter
USER 65532:65532
VOLUME /var/lib/balance_exporter
EXPOSE 10062
ENTRYPOINT ["/balance_exporter"]
