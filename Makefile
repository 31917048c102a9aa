# A short front for meson. `make run` and `make test` install what is missing by themselves.
BUILD ?= build
PACKAGES := tools/install-packages.sh

.PHONY: all run test build bench format tidy asan tsan arm64 fuzz dist image image-check install clean
all: build

build: ; @$(PACKAGES) && tools/build.sh $(BUILD) -Dbuildtype=release
run: build ; @tools/run.sh $(BUILD)
test: build ; @tools/test.sh $(BUILD)
bench: build ; @bench/run.sh $(BUILD)
format: ; @git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format -i
tidy: ; @python3 tools/tidy.py
asan: ; @$(PACKAGES) && tools/build.sh build-asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined && \
	meson test -C build-asan --suite unit --print-errorlogs
tsan: ; @$(PACKAGES) && tools/build.sh build-tsan -Dbuildtype=debugoptimized -Db_sanitize=thread && \
	meson test -C build-tsan --suite unit --print-errorlogs
arm64: ; @$(PACKAGES) && tools/arm64.sh
fuzz: ; @$(PACKAGES) && tools/fuzz.sh
dist: build ; @tools/dist.sh $(BUILD)
image: ; @tools/image.sh
image-check: ; @tools/image-check.sh
install: build ; @meson install -C $(BUILD)
clean: ; @rm -rf build build-asan build-tsan build-arm64 build-fuzz
