-- A site that is not set up for more than one cluster.
function slurm_job_submit(job, partitions, uid)
  if job.clusters and job.clusters ~= "" then
    slurm.log_user("--clusters is not allowed here")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
