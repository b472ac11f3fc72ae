"""An admitted manifest -> inactive slot, next partition, new configuration -> trial. Steps and cuts: docs/boot.md.

Nothing that runs is touched. All that a manifest brings is written beside what runs and verified; then one write of the
boot record makes the next boot try it all together.
"""

import os

from micropython import const

from gatehouse import Refused
from gatehouse import suit_commands as suit
from gatehouse.memory import unload

# Bytes of the heap that an application keeps for its messages and reports while files come: about two reports while
# they are made. Where they are not there, the core alone does it, whose only message is a report that it can leave out.
_SPARE = const(6144)
_SECTIONS = ("payload-fetch", "install", "validate", "load", "invoke")


class Installation:
    """One manifest on its way into the device. `tell(done, total)` is called after each file or block."""

    def __init__(self, boot, manifest, names, payloads, link, tell, buffer, local=None):
        """names: the components; payloads: those inside the envelope, {URI: bytes}; buffer: a scratch memoryview.

        local: the path of a file that is the pack, whatever its URI says.
        """
        self._boot = boot
        self._manifest = manifest
        self._names = names
        self._payloads = payloads
        self._link = link
        self._tell = tell
        self._buffer = buffer
        self._local = local
        self._slot = boot.inactive()
        self._root = "/slots/" + self._slot
        self._verified = None  # (digest, size) that the whole slot was verified against since the last write
        self._partition = None  # label of the partition that holds the new image
        self._platform = None  # (core, .mpy version) of the new image
        self._image = None  # (digest, size) of the index that the partition was verified against
        self._small = {}  # name -> payload of a configuration
        self._no_return = False

    async def bring(self):
        """Run the manifest: fetch, write and verify all that it brings. Raises Refused, or OSError from the flash."""
        invoked = set()
        for section in _SECTIONS:
            commands = self._manifest.run(section, self._boot)
            answer = None
            while True:
                try:
                    command, index, parameters = commands.send(answer)
                except StopIteration:
                    break
                name = self._names[index]
                answer = True
                if command == suit.INVOKE:
                    invoked.add(name)  # at the next boot; here it only has to be there
                elif command == suit.COMPONENT_SLOT and name == "app":
                    answer = parameters[suit.SLOT] == (self._slot == "b")
                elif command == suit.FETCH:
                    await self._fetch(name, parameters)
                elif command == suit.WRITE and name == "config":
                    self._small[name] = parameters[suit.CONTENT]
                elif command == suit.IMAGE_MATCH:
                    answer = self._matches(name, parameters)
                else:
                    raise Refused("unsupported", "command %d for %s while installing" % (command, name))
        self._manifest.complete()
        for name in self._names:
            # A manifest that writes without a match of its own never passes complete(); what runs must be invoked.
            if name != "config" and name not in invoked:
                raise Refused("condition", "the manifest does not invoke %s" % name)
        if "config" in self._small:
            from gatehouse import config

            config.parse(self._small["config"])

    async def _fetch(self, name, parameters):
        if name == "config":
            self._small[name] = self._payloads.get(parameters[suit.URI])
            if self._small[name] is None:
                raise Refused("unsupported", "the payload of config travels inside the envelope")
            return
        boot = self._boot
        digest, size = parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE]
        pack = self._open(parameters[suit.URI], digest)
        try:
            if name == "app":
                await self._fetch_tree(pack, digest, size)
            else:
                await self._fetch_image(pack, digest, size)
        finally:
            await pack.close()
        unload("image")  # what comes next needs its room
        if name == "firmware" and "app" not in self._names and boot.release:
            pack = None  # nothing may hold on to what is unloaded now
            unload("source", "connection", "uri")
            from gatehouse import tree

            with open(boot.release.root + "/index.cbor", "rb") as file:
                tree.Index(file).check_needs(self._platform)  # what runs now will have to run on it

    def _open(self, reference, digest):
        if self._local:
            from gatehouse import filesource

            return filesource.FileSource(self._local)
        from gatehouse import source

        return source.open_source(reference, self._boot.config.base, self._boot.trust.tls, self._link, digest)

    async def _fetch_tree(self, pack, digest, size):
        from gatehouse import unpack

        self._verified = None
        try:
            os.remove(self._root + "/manifest.suit")  # from here on nothing in this slot can be chosen
        except OSError:
            pass  # the slot had none
        active = self._boot.release.root if self._boot.release else None
        spare = _SPARE if self._boot.mode == "active" else 0
        await unpack.fill(pack, self._root, active, digest, size, self._progress, self._buffer, self._platform, spare)

    async def _fetch_image(self, pack, digest, size):
        from gatehouse import image

        label, core, mpy = await image.fill(pack, digest, size, self._progress, self._boot.feed, self._buffer)
        self._partition, self._platform, self._image = label, (core, mpy), (digest, size)

    def _progress(self, done, total):
        self._boot.feed()
        self._tell(done, total)

    def _matches(self, name, parameters):
        if name == "config":
            from gatehouse import trust

            return name in self._small and trust.matches(self._small[name], parameters)
        wanted = (parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE])
        if name == "firmware":
            return self._image == wanted
        self._no_return = parameters.get(suit.NO_RETURN, False)
        if self._verified != wanted:
            from gatehouse import tree

            tree.verify(self._root, wanted[0], wanted[1], self._boot.feed, self._buffer, self._platform)
            self._verified = wanted
        return True

    def switch(self, data):
        """Make the next boot try all of it. `data` is the whole envelope, which goes with what it brought."""
        from gatehouse import transitions

        transitions.switch(self._boot, self._slot, self._manifest, self._names, self._partition, self._no_return, data)
