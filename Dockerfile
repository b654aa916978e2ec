# The image of dvold, for evaluation: dvold needs no shell and no other program, only what docker-compose.yml gives it.
# Made by hack/image, which builds bin/dvold first.
FROM scratch
COPY bin/dvold /usr/local/bin/dvold
ENTRYPOINT ["/usr/local/bin/dvold"]
CMD ["serve"]
