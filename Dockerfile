# The lab as one image, for every service in compose/compose.yml. No server runs in it.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/paytm_lab
WORKDIR /src
# The locked packages first: they change less often than the lab.
COPY requirements.lock .
RUN /opt/paytm_lab/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY paytm_lab paytm_lab
RUN /opt/paytm_lab/bin/pip install --no-deps .

FROM ${PYTHON_IMAGE}
# /data is where a new volume takes its owner from.
RUN useradd --uid 10001 --create-home lab && install -d -o lab -g lab /data
COPY --from=build /opt/paytm_lab /opt/paytm_lab
COPY --chown=lab:lab notebooks /home/lab/notebooks
# XDG_DATA_HOME: the lab's data folder is /data/paytm_lab, the default one, which has no namespace.
ENV PATH=/opt/paytm_lab/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_DATA_HOME=/data \
    PLOTLY_RENDERER=plotly_mimetype
USER lab
WORKDIR /home/lab
ENTRYPOINT ["paytm-lab"]
CMD ["--help"]
