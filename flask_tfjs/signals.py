"""What an app can listen to. The sender is the app; receivers take ``**extra``, since
more may be told later."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A model has a new version. Sent with ``name``, ``version``, its number, and
#: ``blueprint``, the name of that.
model_published = _signals.signal("model-published")

#: A model is an older version again. Sent with the same.
model_rolled_back = _signals.signal("model-rolled-back")

#: An upload was refused, and nothing is stored. Sent with ``name``, ``status``,
#: ``reason`` and ``blueprint``.
upload_rejected = _signals.signal("upload-rejected")
