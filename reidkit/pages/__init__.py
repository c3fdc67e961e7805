"""What all HTML pages share: environment, thumbnails, charts."""

from reidkit.pages.charts import Bar, Series, bar_chart, line_chart
from reidkit.pages.environment import write_page
from reidkit.pages.thumbnails import Album, Thumbnail, data_uri, open_picture

__all__ = [
    "Album",
    "Bar",
    "Series",
    "Thumbnail",
    "bar_chart",
    "data_uri",
    "line_chart",
    "open_picture",
    "write_page",
]
