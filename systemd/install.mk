# As root: `make install` brings program, unit and user in place, over an earlier version too; `make uninstall` takes them
# away. Without network: `make wheelhouse` elsewhere, then `make install WHEELHOUSE=that/folder` from the same checkout.
PREFIX ?= /opt/inspector
# Of pyproject.toml, for example int8,parquet. A wheelhouse must be made with the same.
EXTRAS ?=
WHEELHOUSE ?=
# For packages: everything goes below it, and nothing else of this machine is touched.
DESTDIR ?=
PIP_OPTIONS ?=

ROOT := $(DESTDIR)$(PREFIX)
SHARE := $(ROOT)/share/inspector
LINK := $(DESTDIR)/usr/local/bin/inspector
UNIT := $(DESTDIR)/usr/local/lib/systemd/system/inspector@.service
USERS := $(DESTDIR)/usr/local/lib/sysusers.d/inspector.conf
CONFIG := $(DESTDIR)/etc/inspector
WITH_EXTRAS := $(if $(EXTRAS),[$(EXTRAS)])
SYSTEMD_RUNS := test -z "$(DESTDIR)" -a -d /run/systemd/system
# By its file, never by its name: an index may have another package of that name.
WHEEL = $(shell ls -t $(or $(WHEELHOUSE),build/wheel)/inspector-*.whl | head -n 1)

.PHONY: wheelhouse wheel install install-program install-files uninstall check-install

wheelhouse: $(VENV)/bin/python  ## All wheels, ours too: some gigabytes.
	$(BIN)/pip wheel --quiet $(PIP_OPTIONS) --wheel-dir $(or $(WHEELHOUSE),wheelhouse) '.$(WITH_EXTRAS)'

wheel: $(VENV)/bin/python
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .

install: install-program install-files  ## As root. What is in /etc/inspector stays as it is.
	if $(SYSTEMD_RUNS); then systemd-sysusers && systemctl daemon-reload; fi
	@echo "Installed in $(PREFIX). Next: write /etc/inspector/STATION.yaml (see example.yaml there), inspector check it,"
	@echo "systemctl enable --now inspector@STATION. Stations that run keep the old version until they are restarted."

check-install:
	@test -n "$(DESTDIR)" -o "$$(id -u)" = 0 || { echo "make install: must be run by root, or with DESTDIR"; exit 1; }
	@test ! -e $(ROOT) -o -f $(ROOT)/pyvenv.cfg || { echo "PREFIX: must be a folder of its own, got $(PREFIX)"; exit 1; }

# A person's umask must not keep the service from reading the program.
install-program: check-install $(if $(WHEELHOUSE),,wheel)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@test -n "$(DESTDIR)" || case $$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable))') in \
	    /root/* | /home/*) echo "PYTHON: must lie outside of homes, which the service cannot see"; exit 1;; esac
	umask 022 && $(PYTHON) -m venv $(ROOT)
	umask 022 && $(ROOT)/bin/pip install --quiet $(PIP_OPTIONS) \
	    $(if $(WHEELHOUSE),--no-index --find-links $(WHEELHOUSE)) '$(WHEEL)$(WITH_EXTRAS)'
	umask 022 && $(ROOT)/bin/pip install --quiet --no-index --no-deps --force-reinstall $(WHEEL)  # also the same version
	test -z "$(DESTDIR)" || grep -rlI '$(ROOT)' $(ROOT)/bin $(ROOT)/pyvenv.cfg | xargs sed -i 's|$(ROOT)|$(PREFIX)|g'

install-files: check-install
	install -d $(SHARE) $(CONFIG)/recipes $(dir $(LINK) $(UNIT) $(USERS))
	install -d -m 700 $(CONFIG)/credentials
	sed 's|/opt/inspector|$(PREFIX)|g' systemd/inspector@.service | install -m 644 /dev/stdin $(UNIT)
	install -m 644 systemd/inspector.sysusers $(USERS)
	umask 022 && cp -r README.md CHANGELOG.md LICENSE configs systemd/drop-ins $(SHARE)
	test -e $(CONFIG)/example.yaml || install -m 644 configs/station.yaml $(CONFIG)/example.yaml
	ln -sfn $(PREFIX)/bin/inspector $(LINK)

uninstall: check-install  ## As root. Configuration, state and user stay.
	if $(SYSTEMD_RUNS); then systemctl stop 'inspector@*.service'; \
	    rm -f /etc/systemd/system/*.wants/inspector@*.service; fi
	rm -rf $(ROOT)
	rm -f $(LINK) $(UNIT) $(USERS)
	if $(SYSTEMD_RUNS); then systemctl daemon-reload; fi
	@echo "Left where they are: /etc/inspector, /var/lib/inspector (journal, evidence), the user inspector."
