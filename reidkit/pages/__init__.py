"""What all HTML pages share: environment, thumbnails, charts."""

from reidkit.pages.charts import Bar, Figure, Series, bar_chart, line_chart
from reidkit.pages.environment import check_page, write_figures, write_page
from reidkit.pages.thumbnails import Album, Thumbnail, data_uri, open_picture

__all__ = [
    "Album",
    "Bar",
    "Figure",
    "Series",
    "Thumbnail",
    "bar_chart",
    "check_page",
    "data_uri",
    "line_chart",
    "open_picture",
    "write_figures",
    "write_page",
]
