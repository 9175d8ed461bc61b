@@ replace
        if contains -- $i attach build commit cp create diff events exec export history images import info inspect kill load login logout logs network pause port ps pull push rename restart rm rmi run save search start stop tag top trust unpause version wait stats
@@ put
        if contains -- $i attach build commit cp create diff events exec export history images import info inspect kill load login logout logs modresources network pause port ps pull push rename restart rm rmi run save search start stop tag top trust unpause update version wait stats
@@ end
@@ before
# network
@@ put
# modresources
complete -c docker -f -n '__fish_docker_no_subcommand' -a modresources -d 'Change resource limits of one or more containers, all or nothing'
<%range updates%>complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l <%.Flag%> -d '<%.Help%>'
<%end%>complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l blkio-weight -d 'Block IO (relative weight), between 10 and 1000'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l container -d 'Container to change, same as an argument'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpu-period -d 'Limit CPU CFS (Completely Fair Scheduler) period'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpu-quota -d 'Limit CPU CFS (Completely Fair Scheduler) quota'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpu-rt-period -d 'Limit the CPU real-time period in microseconds'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpu-rt-runtime -d 'Limit the CPU real-time runtime in microseconds'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -s c -l cpu-shares -d 'CPU shares (relative weight)'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpus -d 'Number of CPUs'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpuset-cpus -d 'CPUs in which to allow execution (0-3, 0,1)'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l cpuset-mems -d 'MEMs in which to allow execution (0-3, 0,1)'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l dry-run -d 'Show what would change, and change nothing'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l format -d 'Format the output using the given go template'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l help -d 'Print usage'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -s m -l memory -d 'Memory limit'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l memory-reservation -d 'Memory soft limit'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l memory-swap -d 'Swap limit equal to memory plus swap: -1 to enable unlimited swap'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l partial -d 'Keep going after an error, and keep what was changed'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l pids-limit -d 'Tune container pids limit (set -1 for unlimited)'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -s q -l quiet -d 'Only print the names of the containers'
complete -c docker -A -n '__fish_seen_subcommand_from modresources' -l resources-file -r -d 'Read resource limits from a YAML or JSON file'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -l show -d 'Print the limits of a container as a file for --resources-file'
complete -c docker -A -f -n '__fish_seen_subcommand_from modresources' -a '(__fish_print_docker_containers running)' -d "Container"

@@ end
@@ before
# version
@@ put
# update
complete -c docker -f -n '__fish_docker_no_subcommand' -a update -d 'Update configuration of one or more containers'
<%range updates%>complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l <%.Flag%> -d '<%.Help%>'
<%end%>complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l blkio-weight -d 'Block IO (relative weight), between 10 and 1000'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpu-period -d 'Limit CPU CFS (Completely Fair Scheduler) period'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpu-quota -d 'Limit CPU CFS (Completely Fair Scheduler) quota'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpu-rt-period -d 'Limit the CPU real-time period in microseconds'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpu-rt-runtime -d 'Limit the CPU real-time runtime in microseconds'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -s c -l cpu-shares -d 'CPU shares (relative weight)'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpus -d 'Number of CPUs'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpuset-cpus -d 'CPUs in which to allow execution (0-3, 0,1)'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l cpuset-mems -d 'MEMs in which to allow execution (0-3, 0,1)'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l help -d 'Print usage'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -s m -l memory -d 'Memory limit'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l memory-reservation -d 'Memory soft limit'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l memory-swap -d 'Swap limit equal to memory plus swap: -1 to enable unlimited swap'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l pids-limit -d 'Tune container pids limit (set -1 for unlimited)'
complete -c docker -A -n '__fish_seen_subcommand_from update' -l resources-file -r -d 'Read resource limits from a YAML or JSON file'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -l restart -d 'Restart policy to apply when a container exits'
complete -c docker -A -f -n '__fish_seen_subcommand_from update' -a '(__fish_print_docker_containers all)' -d "Container"

@@ end
@@ after
complete -c docker -A -f -n '__fish_seen_subcommand_from create' -s a -l attach -d 'Attach to STDIN, STDOUT or STDERR.'
@@ put
<%range limits%>complete -c docker -A -f -n '__fish_seen_subcommand_from create' -l <%.Flag%> -d '<%.Help%>'
<%end%>complete -c docker -A -n '__fish_seen_subcommand_from create' -l resources-file -r -d 'Read resource limits from a YAML or JSON file'
@@ end
@@ after
complete -c docker -A -f -n '__fish_seen_subcommand_from run' -s c -l cpu-shares -d 'CPU shares (relative weight)'
@@ put
<%range limits%>complete -c docker -A -f -n '__fish_seen_subcommand_from run' -l <%.Flag%> -d '<%.Help%>'
<%end%>complete -c docker -A -n '__fish_seen_subcommand_from run' -l resources-file -r -d 'Read resource limits from a YAML or JSON file'
@@ end
